/** Marks of taught concepts: what pressing means, what holds, and that none is lost. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { shown } from "../src/api";
import {
  batchOf,
  boxOf,
  describeMarks,
  heldOn,
  kindOf,
  newUid,
  nextKind,
  pointedOf,
  writePointed,
  type Pointed,
} from "../src/lib/marks";
import { Marker } from "../src/marker.svelte";
import type { Mark } from "../src/types";
import { Store } from "./store";

const pointed = (part: Partial<Pointed> = {}): Pointed => ({
  uid: newUid(),
  concept: "Auer rod",
  rater: "AB",
  dataset: "pbc",
  row: 3,
  patch: 5,
  mark: "this",
  time: 1,
  study: "one",
  ...part,
});
const stored = (part: Partial<Mark> = {}): Mark => ({
  concept: "Auer rod",
  dataset: "pbc",
  row: 3,
  cell_id: "c3",
  patch: 5,
  mark: "this",
  rater: "AB",
  time: "2026-01-01T00:00:00Z",
  ...part,
});
const here = { concept: "Auer rod", dataset: "pbc", row: 3 };

test("pressing a patch says this, not this, nothing", () => {
  expect([nextKind("none"), nextKind("this"), nextKind("not")]).toEqual(["this", "not", "none"]);
});

test("a box has the patches between two corners, whichever they are", () => {
  expect(boxOf(5, 5, 4)).toEqual([5]);
  expect(boxOf(1, 10, 4)).toEqual([1, 2, 5, 6, 9, 10]);
  expect(boxOf(10, 1, 4)).toEqual(boxOf(1, 10, 4));
  expect(boxOf(9, 2, 4)).toEqual(boxOf(1, 10, 4));
});

test("what was pointed at since holds over what the server has, for each rater by itself", () => {
  const held = heldOn(
    here,
    [stored(), stored({ patch: 6 }), stored({ rater: "CD", mark: "not" }), stored({ concept: "vacuole" })],
    [
      pointed({ mark: "not" }),
      pointed({ patch: 6, mark: "none" }),
      pointed({ patch: null }),
      pointed({ row: 4, patch: 9 }),
    ],
  );
  expect(held.map((one) => [one.patch, one.mark, one.rater])).toEqual([
    [5, "not", "CD"],
    [5, "not", "AB"],
    [null, "this", "AB"],
  ]);
  expect([kindOf(held, 5, "AB"), kindOf(held, 6, "AB"), kindOf(held, null, "CD")]).toEqual([
    "not",
    "none",
    "none",
  ]);
  expect(describeMarks(held, 5, "AB", 4)).toBe("Patch 1,1: not this (CD); not this (you)");
  expect(describeMarks(held, 6, "AB", 4)).toBe("Patch 1,2: no mark");
  expect(describeMarks(held, null, "AB", 4)).toBe("Whole cell: this (you)");
});

test("marks of one concept and rater are sent together, in their order", () => {
  const waiting = [pointed(), pointed({ patch: 6 }), pointed({ concept: "vacuole" }), pointed({ patch: 7 })];
  expect(batchOf(waiting).map((one) => one.patch)).toEqual([5, 6]);
  expect(batchOf(waiting, 1)).toHaveLength(1);
  expect(batchOf([])).toEqual([]);
});

test("what waits in the browser is that of one study, oldest first", () => {
  const store = new Store();
  store.setItem("cytosae:mark:broken", "{");
  store.setItem("cytosae:unsent:other", "{}");
  for (const one of [pointed({ time: 2 }), pointed({ patch: 6 }), pointed({ study: "other" })])
    expect(writePointed(store, one)).toBe(true);
  expect(pointedOf(store, "one").map((one) => one.patch)).toEqual([6, 5]);
  store.most = 10;
  expect(writePointed(store, pointed())).toBe(false);
});

/** The server of one study: a mark whose name it knows counts once. */
class Server {
  marks = new Map<string, string>();
  instead: (number | "down" | "lost")[] = [];
  fetch = (_: string, options: RequestInit): Promise<Response> => {
    const next = this.instead.shift();
    if (next === "down") return Promise.reject(new TypeError("failed to fetch"));
    if (typeof next === "number")
      return Promise.resolve(new Response(JSON.stringify({ detail: `answer ${next}` }), { status: next }));
    const body = JSON.parse(String(options.body)) as { marks: Pointed[] };
    for (const one of body.marks)
      if (!this.marks.has(one.uid)) this.marks.set(one.uid, `${one.patch} ${one.mark}`);
    if (next === "lost") return Promise.reject(new TypeError("connection reset"));
    return Promise.resolve(new Response("[]"));
  };
}
let store: Store, server: Server;
beforeEach(() => {
  store = new Store();
  server = new Server();
  vi.useFakeTimers();
  vi.stubGlobal("localStorage", store);
  vi.stubGlobal("fetch", (url: string, options: RequestInit) => server.fetch(url, options));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});
function page(): Marker {
  const marker = new Marker();
  shown.key = "one";
  marker.begin("one");
  return marker;
}
const place = { ...here, rater: "AB" };
const wait = (seconds = 1): Promise<unknown> => vi.advanceTimersByTimeAsync(1000 * seconds);
const said = (): string[] => [...server.marks.values()];

test("marks are sent at once, and what is done meanwhile after them", async () => {
  const marker = page();
  marker.point(place, [5, 6], "this");
  marker.point(place, [5], "not");
  expect(marker.since(0).map((one) => one.mark)).toEqual(["this", "this", "not"]);
  await wait();
  expect([said(), store.length, marker.state.status]).toEqual([["5 this", "6 this", "5 not"], 0, "saved"]);
  expect(marker.since(0)).toHaveLength(3);
  expect(marker.since(marker.acknowledged)).toHaveLength(0);
});

test.each(["down", "lost", 500, 503] as const)("a server that fails (%s) loses nothing", async (fault) => {
  server.instead = [fault, fault];
  const marker = page();
  marker.point(place, [5], "this");
  await wait(0.1);
  expect([marker.state.status, store.length]).toEqual(["waiting", 1]);
  marker.point(place, [6], "not");
  await wait(10);
  expect([said(), store.length, marker.state.status]).toEqual([["5 this", "6 not"], 0, "saved"]);
});

test("a page that is closed before the server answers leaves its marks to the next one", async () => {
  server.instead = ["down", "lost"];
  const before = page();
  before.point(place, [5, 6], "this");
  await wait(0.1);
  vi.clearAllTimers(); // the page is gone
  const after = page();
  await wait(10);
  expect([said(), store.length, after.state.status]).toEqual([["5 this", "6 this"], 0, "saved"]);
});

test("a mark that is refused is kept, said, and stands in no other's way", async () => {
  server.instead = [404];
  const marker = page();
  marker.point(place, [5], "this");
  marker.point({ ...place, concept: "vacuole" }, [6], "this");
  await wait();
  expect([said(), store.length, marker.state.status, marker.state.message]).toEqual([
    ["6 this"],
    1,
    "refused",
    "answer 404",
  ]);
});
