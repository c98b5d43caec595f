import { readFileSync, readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { meaningOf, pieces, readGlossary } from "../src/lib/glossary";

test("rows of a table, links as text, both names of a term", () => {
  const page =
    "# T\n\n| word | meaning |\n|---|---|\n| latent | a [unit](a.md) |\n| rate of it (ROI) | a share |\n";
  expect([...readGlossary(page)]).toEqual([
    ["latent", "a unit"],
    ["rate of it", "a share"],
    ["roi", "a share"],
  ]);
});

test("plurals have the entry of their singular", () => {
  expect(meaningOf("patches")).toBe(meaningOf("patch"));
  expect(meaningOf("Concepts")).toContain("latent");
  expect(meaningOf("no such word")).toBe("");
});

test("every term that the page explains is in the glossary", () => {
  const files = ["src/parts", "src/views"].flatMap((folder) =>
    readdirSync(folder).map((name) => `${folder}/${name}`),
  );
  const named = files.flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/<Term\s([^>]*?)\/>/gs)]
      .map((match) => match[1] ?? "")
      .filter((given) => !given.includes("meaning=") && !given.includes("text={"))
      .map((given) => (/word="([^"]+)"/.exec(given) ?? /text="([^"]+)"/.exec(given) ?? [])[1] ?? ""),
  );
  const texts = readFileSync("src/tour.svelte.ts", "utf8").matchAll(/^ {4}text: "(.*)",$/gm);
  const toured = [...texts].flatMap((match) =>
    pieces(match[1] ?? "")
      .filter((piece) => piece.term)
      .map((piece) => piece.text),
  );
  expect(toured.length).toBeGreaterThan(8);
  expect([...named, ...toured].filter((word) => !meaningOf(word))).toEqual([]);
});
