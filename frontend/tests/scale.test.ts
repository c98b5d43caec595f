import { expect, test } from "vitest";
import { axisOf, histogram, place, ticks, unplace } from "../src/lib/scale";
import { nearest, WHOLE, zoomed } from "../src/scatter/points";
import { number, rate } from "../src/lib/format";

test("axes: what has no place has none, and places come back", () => {
  const axis = axisOf([0.001, 1, 0, -3, null, NaN], true, 0);
  expect(axis).toEqual({ low: 0.001, high: 1, log: true });
  expect([0, -1, null].map((value) => place(axis, value))).toEqual([NaN, NaN, NaN]);
  expect(unplace(axis, place(axis, 0.02))).toBeCloseTo(0.02);
  expect(axisOf([], false)).toEqual({ low: 0, high: 1, log: false });
  expect(axisOf([5, 5], false).high).toBeGreaterThan(5);
});

test("ticks are round and within", () => {
  expect(ticks({ low: 0.0005, high: 20, log: true })).toEqual([0.001, 0.01, 0.1, 1, 10]);
  expect(ticks({ low: 0.15, high: 1.05, log: true })).toEqual([0.2, 0.5, 1]);
  expect(ticks({ low: -0.05, high: 1.05, log: false }, 4)).toEqual([0, 0.5, 1]);
});

test("histograms count every value within", () => {
  expect(histogram({ low: 0, high: 1, log: false }, [0, 0.1, 0.5, 1, 2, null], 2)).toEqual([2, 2]);
});

test("the nearest point is found, zoomed or not", () => {
  const points = {
    x: Float32Array.of(0.2, 0.8, NaN),
    y: Float32Array.of(0.2, 0.8, 0.5),
    colour: new Uint8Array(12),
    size: Float32Array.of(8, 8, 8),
  };
  expect(nearest(points, () => true, WHOLE, 100, 100, 21, 79)).toBe(0);
  expect(nearest(points, (i) => i > 0, WHOLE, 100, 100, 21, 79)).toBe(null);
  const window = zoomed(WHOLE, 0.8, 0.8, 0.5);
  expect(window).toEqual({ left: 0.4, right: 0.9, bottom: 0.4, top: 0.9 });
  expect(nearest(points, () => true, window, 100, 100, 80, 20)).toBe(1);
  expect(zoomed(window, 0.5, 0.5, 9)).toEqual(WHOLE);
});

test("numbers as people read them", () => {
  expect([0, 1234, 0.000123, 0.12345, -2.5, null, -1e-9].map((value) => number(value))).toEqual([
    "0",
    "1,234",
    "1.2e−4",
    "0.123",
    "−2.5",
    "–",
    "0",
  ]);
  expect([0.0001, 0.04, null].map(rate)).toEqual(["< 0.001", "0.040", "–"]);
});
