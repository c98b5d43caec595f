import { expect, test } from "vitest";
import { href, parse, patchIndex, patchName, withQuery } from "../src/route";

test("addresses come back as they were made", () => {
  const made = href("cell", ["a/b ?", 7], { patch: "7,9", latent: 12, nothing: null });
  expect(parse(made)).toEqual({ view: "cell", parts: ["a/b ?", "7"], query: { patch: "7,9", latent: "12" } });
  expect(withQuery(parse(made), { latent: null })).toBe("#/cell/a%2Fb%20%3F/7?patch=7%2C9");
  expect(parse("")).toEqual({ view: "", parts: [], query: {} });
  expect(parse("#/concepts/%E0%A4%A").parts).toEqual(["%E0%A4%A"]);
});

test("patches are named by row and column", () => {
  expect(patchIndex("7,9", [16, 16])).toBe(121);
  expect(patchName(121, 16)).toBe("7,9");
  expect([undefined, "", "16,0", "0,16", "a,b", "-1,2"].map((text) => patchIndex(text, [16, 16]))).toEqual(
    Array(6).fill(null),
  );
});
