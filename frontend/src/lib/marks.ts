/** Marks of taught concepts: what is pointed at, and what waits in the browser until the server has it. */
import type { Mark, MarkKind } from "../types";
import type { Store } from "./drafts";
import { patchName } from "../route";

/** A mark as it is made here; `patch` is null for the whole cell. */
export interface Pointed {
  uid: string;
  concept: string;
  rater: string;
  dataset: string;
  row: number;
  patch: number | null;
  mark: MarkKind;
  time: number;
  /** Names the study that it is of, see `Study.annotations.key`. */
  study: string;
}
/** What holds on a place of a cell. */
export interface Held {
  patch: number | null;
  mark: "this" | "not";
  rater: string;
}

const PREFIX = "cytosae:mark:";
const TURN: Record<MarkKind, MarkKind> = { none: "this", this: "not", not: "none" };

/** What pressing a patch once more says: this, not this, nothing. */
export const nextKind = (now: MarkKind): MarkKind => TURN[now];

/** The patches of a box between two of its corners, row by row. */
export function boxOf(from: number, to: number, columns: number): number[] {
  const [rows, across] = [
    [Math.floor(from / columns), Math.floor(to / columns)].sort((a, b) => a - b),
    [from % columns, to % columns].sort((a, b) => a - b),
  ] as [[number, number], [number, number]];
  const patches: number[] = [];
  for (let row = rows[0]; row <= rows[1]; row++)
    for (let column = across[0]; column <= across[1]; column++) patches.push(row * columns + column);
  return patches;
}

/** What holds on a cell for a concept: the server's marks, and over them what was pointed at since. */
export function heldOn(
  place: { concept: string; dataset: string; row: number },
  stored: readonly Mark[],
  since: readonly Pointed[],
): Held[] {
  const held = new Map<string, Held>();
  const at = (one: { patch: number | null; rater: string }): string => JSON.stringify([one.patch, one.rater]);
  const here = (one: { concept: string; dataset: string; row: number | null }): boolean =>
    one.concept === place.concept && one.dataset === place.dataset && one.row === place.row;
  for (const one of [...stored, ...since].filter(here)) {
    held.delete(at(one));
    if (one.mark !== "none") held.set(at(one), { patch: one.patch, mark: one.mark, rater: one.rater });
  }
  return [...held.values()];
}

export const kindOf = (held: readonly Held[], patch: number | null, rater: string): MarkKind =>
  held.find((one) => one.patch === patch && one.rater === rater)?.mark ?? "none";

/** What is drawn of them: the rater's own, and those of others where the rater says nothing else. */
export function outlinesOf(
  held: readonly Held[],
  rater: string,
): { patch: number | null; mark: "this" | "not"; other: boolean }[] {
  const own = held
    .filter((one) => one.rater === rater)
    .map(({ patch, mark }) => ({ patch, mark, other: false }));
  const others = held.filter(
    (one) => one.rater !== rater && !own.some((mine) => mine.patch === one.patch && mine.mark === one.mark),
  );
  const unique = new Map(
    others.map(({ patch, mark }) => [`${patch}${mark}`, { patch, mark, other: true }] as const),
  );
  return [...unique.values(), ...own];
}

/** A patch, or the whole cell, as it is read out. */
export function describeMarks(
  held: readonly Held[],
  patch: number | null,
  rater: string,
  columns: number,
): string {
  const said = held
    .filter((one) => one.patch === patch)
    .map(
      (one) => `${one.mark === "this" ? "this" : "not this"} (${one.rater === rater ? "you" : one.rater})`,
    );
  return `${patch === null ? "Whole cell" : `Patch ${patchName(patch, columns)}`}: ${said.join("; ") || "no mark"}`;
}

export function writePointed(store: Store, one: Pointed): boolean {
  try {
    store.setItem(PREFIX + one.uid, JSON.stringify(one));
    return true;
  } catch {
    return false;
  }
}
export const dropPointed = (store: Store, one: Pointed): void => store.removeItem(PREFIX + one.uid);

/** What waits for a study, oldest first. */
export function pointedOf(store: Store, study: string): Pointed[] {
  const spots: Pointed[] = [];
  for (let i = 0; i < store.length; i++) {
    const at = store.key(i) ?? "";
    if (!at.startsWith(PREFIX)) continue;
    try {
      const one = JSON.parse(store.getItem(at) ?? "null") as Pointed | null;
      if (one && one.study === study && typeof one.concept === "string" && typeof one.row === "number")
        spots.push(one);
    } catch {
      /* not of this page */
    }
  }
  return spots.sort((a, b) => a.time - b.time);
}

/** The first marks that can be sent together: of one concept and rater. */
export function batchOf(waiting: readonly Pointed[], most = 500): Pointed[] {
  const first = waiting[0];
  const end = waiting.findIndex((one) => one.concept !== first?.concept || one.rater !== first.rater);
  return waiting.slice(0, Math.min(most, end < 0 ? waiting.length : end));
}

/** 32 hexadecimal digits; `crypto.randomUUID` is missing where a page comes without encryption. */
export const newUid = (): string =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
