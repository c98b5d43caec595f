import { expect, test } from "vitest";
import { address } from "../src/address";

test("the live API: encoded parts, parameters without empty ones", () => {
  expect(address("/api/latents/{dataset}/{latent}", { dataset: "a/b c", latent: 12 })).toBe(
    "api/latents/a%2Fb%20c/12",
  );
  expect(
    address("/api/cells/{dataset}", { dataset: "x", label: "blast", patient: "", offset: 0, more: null }),
  ).toBe("api/cells/x?label=blast&offset=0");
});

test("a static export: files named by the encoded path, at the defaults", () => {
  const exported = (path: string, given = {}) => address(path, given, true);
  expect(exported("/api/study")).toBe("data/study.json");
  expect(exported("/api/latents/{dataset}/{latent}", { dataset: "pbc", latent: 12 })).toBe(
    "data/latents/pbc/12.json",
  );
  expect(exported("/api/cells/{dataset}/{row}/image", { dataset: "pbc", row: 3, size: 448 })).toBe(
    "data/cells/pbc/3/image.jpg",
  );
  expect(exported("/api/patients/{id}", { id: "P 1", against: "healthy" })).toBe(
    "data/patients/P%25201.json",
  );
});
