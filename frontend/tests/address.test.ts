import { expect, test } from "vitest";
import { address, path } from "../src/address";

test("the live API: encoded parts, parameters without empty ones", () => {
  expect(address(path("latents", "a/b c", 12))).toBe("api/latents/a%2Fb%20c/12");
  expect(address("cells/x", { label: "blast", patient: "", offset: 0, more: null })).toBe(
    "api/cells/x?label=blast&offset=0",
  );
});

test("a static export: files named by the encoded path, at the defaults", () => {
  expect(address("study", {}, true)).toBe("data/study.json");
  expect(address(path("latents", "pbc", 12), {}, true)).toBe("data/latents/pbc/12.json");
  expect(address(path("latents", "pbc", 12, "images", "reference"), {}, true)).toBe(
    "data/latents/pbc/12/images/reference.json",
  );
  expect(address(path("cells", "pbc", 3) + "/image", { size: 448 }, true)).toBe("data/cells/pbc/3/image.jpg");
  expect(address(path("patients", "P 1"), { against: "healthy" }, true)).toBe("data/patients/P%25201.json");
});
