import { expect, test } from "vitest";
import { colourOf, css, hexOf } from "../src/lib/colours";
import { borderOf, decodeMap, enlarge, paint, rescaled, stretched } from "../src/lib/maps";

test("base64 to bytes", () => {
  expect([...decodeMap("AAH/")]).toEqual([0, 1, 255]);
  expect(decodeMap(btoa("m".repeat(256)))).toHaveLength(256);
});

test("enlarging stays within the range, keeps constants and keeps rows and columns apart", () => {
  expect(new Set(enlarge(new Uint8Array(6).fill(9), [2, 3], 4))).toEqual(new Set([9]));
  const large = enlarge([0, 0, 0, 255, 0, 0], [2, 3], 8);
  expect(large).toHaveLength(16 * 24);
  expect(Math.min(...large)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...large)).toBeLessThanOrEqual(255);
  expect(large[15 * 24]).toBeGreaterThan(200);
  expect(large[23]).toBe(0);
});

test("the border goes around what is above a value, holes and image borders too", () => {
  expect(borderOf([0, 9, 9, 0], [2, 2], 9)).toBe("");
  const one = borderOf([0, 0, 0, 0, 9, 0, 0, 0, 0], [3, 3], 8);
  expect(one.split("M").slice(1).sort()).toEqual(["1 1h1", "1 1v1", "1 2h1", "2 1v1"]);
  expect(borderOf([9, 9, 9, 9], [2, 2], 0).match(/M/g)).toHaveLength(8);
});

test("a scale of others ends at their strongest patch, and what is stronger has its colour", () => {
  expect([...rescaled(Uint8Array.of(0, 100, 255), 1, 2)]).toEqual([0, 50, 128]);
  expect([...rescaled(Uint8Array.of(0, 100, 255), 2, 1)]).toEqual([0, 200, 255]);
});

test("an image's own scale ends at its strongest patch", () => {
  expect([...stretched(Uint8Array.of(0, 10, 20))]).toEqual([0, 128, 255]);
  expect([...stretched(Uint8Array.of(0, 0))]).toEqual([0, 0]);
});

test("nothing is painted where nothing is active", () => {
  expect([...paint([0, 255], "viridis")]).toEqual([68, 1, 84, 0, 253, 231, 37, 255]);
});

test("colour scales: ends, clipping, rising lightness", () => {
  expect(colourOf("viridis", -1)).toEqual([68, 1, 84]);
  expect(colourOf("cividis", 2)).toEqual([254, 232, 56]);
  expect(css(colourOf("viridis", 0.5))).toBe("rgb(33 145 140)");
  for (const scale of ["viridis", "cividis"] as const) {
    const light = Array.from({ length: 20 }, (_, i) => {
      const [r, g, b] = colourOf(scale, i / 19);
      return 0.21 * r + 0.72 * g + 0.07 * b;
    });
    expect(light.every((value, i) => i === 0 || value > (light[i - 1] ?? 0))).toBe(true);
  }
  expect(hexOf("#56b4e9")).toEqual([86, 180, 233]);
});
