import { describe, expect, it } from "vitest";
import { featuresOf, orderOf, transformOf } from "../src/lib/representation";

describe("what an address compares", () => {
  it("reads choices, and leaves the default and nonsense to the server", () => {
    const query = { features: "strongest", transform: "log1p", order: "reach" };
    expect([featuresOf(query), transformOf(query), orderOf(query)]).toEqual(["strongest", "log1p", "reach"]);
    expect([featuresOf({ features: "counts" }), featuresOf({}), featuresOf({ features: "all" })]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(transformOf({ transform: "toString" })).toBeUndefined();
  });
});
