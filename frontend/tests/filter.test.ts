import { expect, test } from "vitest";
import {
  folded,
  inside,
  passing,
  readLasso,
  readRanges,
  sorted,
  writeLasso,
  writeRanges,
  type Columns,
  type Filter,
} from "../src/lib/filter";
import type { Names } from "../src/types";

const latents: Columns = {
  latent: [3, 12, 120, 7],
  concept: [1, 1, 1, 0],
  typical_label: [0, 1, -1, 0],
  a: [1, 2, null, 4],
  b: [1, 1, 1, 1],
};
const names: Names = {
  12: {
    name: "Auer rods",
    own: "needles",
    given: [
      { name: "Auer rods", raters: ["A"] },
      { name: "Faggots", raters: ["B"] },
    ],
    raters: 2,
    verdicts: { meaningful: 1, artefact: 1, "cannot tell": 0 },
  },
};
const none: Filter = {
  all: false,
  beside: false,
  text: "",
  label: null,
  notes: "",
  ranges: [],
  lasso: [],
  x: "a",
  y: "b",
};
const found = (part: Partial<Filter>): number[] =>
  passing(latents, { ...none, ...part }, names, ["segmented_neutrophil", "blast"]);

test("what speaks of the surroundings stands behind a fold, and a search finds it", () => {
  const folded = { ...latents, beside: [0, 1, 0, 0] };
  const listed = (part: Partial<Filter>): number[] => passing(folded, { ...none, ...part }, names, ["blast"]);
  expect(listed({})).toEqual([0, 2]);
  expect(listed({ beside: true })).toEqual([0, 1, 2]);
  expect(listed({ text: "auer" })).toEqual([1]);
});

test("filters", () => {
  expect(found({})).toEqual([0, 1, 2]);
  expect(found({ all: true })).toEqual([0, 1, 2, 3]);
  expect(found({ text: "12" })).toEqual([1, 2]);
  expect(found({ text: "auer" })).toEqual([1]);
  expect(found({ text: "NEEDLES" })).toEqual([1]); // the rater's own name
  expect(found({ text: "faggot" })).toEqual([1]); // another rater's
  expect(found({ text: "segmented neu" })).toEqual([0]);
  expect(found({ label: 1 })).toEqual([1]);
  expect(found({ notes: "disputed" })).toEqual([1]);
  expect(found({ notes: "unjudged" })).toEqual([0, 2]);
  expect(found({ ranges: [{ key: "a", low: null, high: 1.5 }] })).toEqual([0]);
  expect(
    found({
      lasso: [
        [1.5, 0],
        [1.5, 2],
        [3, 2],
        [3, 0],
      ],
    }),
  ).toEqual([1]);
});

test("sorting puts what is unknown last, either way", () => {
  expect(sorted(latents, [0, 1, 2, 3], "a", true)).toEqual([3, 1, 0, 2]);
  expect(sorted(latents, [0, 1, 2, 3], "a", false)).toEqual([0, 1, 3, 2]);
  expect(sorted(latents, [0, 1, 2, 3], "b", true)).toEqual([0, 3, 1, 2]);
});

test("ranges and lassos survive an address", () => {
  const ranges = [
    { key: "border", low: 0.1, high: null },
    { key: "a", low: null, high: 2 },
  ];
  expect(readRanges(writeRanges(ranges))).toEqual(ranges);
  expect(readRanges(undefined)).toEqual([]);
  const circle = Array.from({ length: 500 }, (_, i): [number, number] => [
    Math.cos(i / 80),
    Math.sin(i / 80),
  ]);
  const kept = readLasso(writeLasso(circle));
  expect(kept).toHaveLength(40);
  expect(inside(kept, 0, 0)).toBe(true);
  expect(inside(kept, 1.2, 0)).toBe(false);
  expect(readLasso("1,2;x,3;4,5")).toEqual([]);
});

test("words of a description are found together, whatever lies between", () => {
  const described = { 3: "nucleus; with segmented nucleus (0.6)", 12: "granules, cytoplasm" };
  const search = (text: string): number[] => passing(latents, { ...none, text }, {}, [], described);
  expect(search("segmented nucleus")).toEqual([0]);
  expect(search("cytoplasm granules")).toEqual([1]);
  expect(search("Granules nucleus")).toEqual([]);
});

test("near-duplicates stand behind the one that is listed for them", () => {
  const alike = { latent: [3, 12, 120, 7], alike: [3, 3, 3, 7] };
  expect(folded(alike, [3, 0, 1, 2], new Set())).toEqual({ order: [3, 0], behind: new Map([[0, [1, 2]]]) });
  expect(folded(alike, [3, 0, 1, 2], new Set([3])).order).toEqual([3, 0, 1, 2]);
  // A search that finds the others alone shows them.
  expect(folded(alike, [2, 1], new Set()).order).toEqual([2, 1]);
});
