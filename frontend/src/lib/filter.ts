/** Which latents of a data set pass, and in which order. */
import type { AgreedName, Latents, Names } from "../types";

/** Columns of equal length, with an entry for each latent that is active in the data set. */
export type Columns = Pick<Latents, "latent" | "concept" | "typical_label"> &
  Record<string, (number | null)[]>;

export type Notes =
  "" | "named" | "judged" | "unjudged" | "meaningful" | "artefact" | "cannot tell" | "disputed";
export interface Range {
  key: string;
  low: number | null;
  high: number | null;
}
export type Point = [number, number];
export interface Filter {
  all: boolean;
  /** Also those that speak of surroundings, of a place in the picture or of the stain; a search finds them anyway. */
  beside: boolean;
  text: string;
  label: number | null;
  notes: Notes;
  ranges: Range[];
  lasso: Point[];
  x: string;
  y: string;
}

/** The name to show: the rater's own before the one that most raters gave. */
export const nameIn = (known: AgreedName | undefined): string => known?.own || known?.name || "";
/** Whether any name that was given contains a text in lower case. */
export const isCalled = (known: AgreedName | undefined, text: string): boolean =>
  Boolean(
    known &&
    [known.own, known.name, ...known.given.map((given) => given.name)].some((name) =>
      name.toLowerCase().includes(text),
    ),
  );

/** A list in which near-duplicates stand behind the one that is listed for them, and only where that is opened. */
export interface Folded {
  order: number[];
  /** Indices of those that stand behind an index. */
  behind: Map<number, number[]>;
}
/** Folds near-duplicates (`latents.alike`); one whose place is not in the list stands for itself. */
export function folded(
  latents: Pick<Latents, "latent" | "alike">,
  listed: number[],
  opened: Set<number>,
): Folded {
  const at = new Map(listed.map((i) => [latents.latent[i] ?? -1, i]));
  const behind = new Map<number, number[]>();
  const leader = (i: number): number => at.get(latents.alike[i] ?? -1) ?? i;
  for (const i of listed) if (leader(i) !== i) behind.set(leader(i), [...(behind.get(leader(i)) ?? []), i]);
  const order = listed
    .filter((i) => leader(i) === i)
    .flatMap((i) => [i, ...(opened.has(latents.latent[i] ?? -1) ? (behind.get(i) ?? []) : [])]);
  return { order, behind };
}

/**
 * Indices of the latents that pass. Text is a number or its beginning, or a part of a name or of the cell type that
 * it is specific for, or words that all stand in the description.
 */
export function passing(
  latents: Columns,
  filter: Filter,
  names: Names,
  labels: string[],
  descriptions: Record<string, string> = {},
): number[] {
  const text = filter.text.trim().toLowerCase(),
    isNumber = /^\d+$/.test(text);
  const out: number[] = [];
  for (let i = 0; i < latents.latent.length; i++) {
    const latent = latents.latent[i] ?? 0;
    if (!filter.all && !latents.concept[i]) continue;
    if (filter.label !== null && latents.typical_label[i] !== filter.label) continue;
    if (!filter.beside && !text && latents["beside"]?.[i]) continue;
    if (!filter.ranges.every((range) => within(latents[range.key]?.[i], range))) continue;
    if (text) {
      const named = isCalled(names[latent], text),
        label = (labels[latents.typical_label[i] ?? -1] ?? "").toLowerCase().replaceAll("_", " ");
      if (
        !(isNumber
          ? String(latent).startsWith(text) || named
          : named || label.includes(text.replaceAll("_", " ")) || isDescribed(descriptions[latent], text))
      )
        continue;
    }
    if (filter.notes && !noted(names, latent, filter.notes)) continue;
    if (filter.lasso.length > 2 && !inside(filter.lasso, latents[filter.x]?.[i], latents[filter.y]?.[i]))
      continue;
    out.push(i);
  }
  return out;
}

/** Whether every word of a text stands in a description. */
export const isDescribed = (description: string | undefined, text: string): boolean => {
  const inside = description?.toLowerCase();
  return inside !== undefined && text.split(/\s+/).every((word) => inside.includes(word));
};

function within(value: number | null | undefined, { low, high }: Range): boolean {
  return (
    value !== null &&
    value !== undefined &&
    (low === null || value >= low) &&
    (high === null || value <= high)
  );
}

function noted(names: Names, latent: number, notes: Notes): boolean {
  const known = names[latent],
    verdicts = known?.verdicts;
  if (notes === "named") return Boolean(nameIn(known));
  const given = verdicts ? Object.values(verdicts).filter((count) => count > 0).length : 0;
  if (notes === "judged") return given > 0;
  if (notes === "unjudged") return given === 0;
  if (notes === "disputed") return given > 1;
  return notes !== "" && (verdicts?.[notes] ?? 0) > 0;
}

/** Is a point within a polygon: an odd number of its sides lies to the right. */
export function inside(
  polygon: readonly Point[],
  x: number | null | undefined,
  y: number | null | undefined,
): boolean {
  if (x === null || x === undefined || y === null || y === undefined) return false;
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [ax, ay] = polygon[i] ?? [0, 0],
      [bx, by] = polygon[j] ?? [0, 0];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}

/** By a column, nulls last whatever the direction; ties by number. */
export function sorted(
  latents: Columns,
  indices: readonly number[],
  key: string,
  descending: boolean,
): number[] {
  const column = latents[key] ?? latents.latent,
    sign = descending ? -1 : 1;
  return [...indices].sort((a, b) => {
    const x = column[a] ?? null,
      y = column[b] ?? null;
    if (x === null || y === null) return x === y ? a - b : x === null ? 1 : -1;
    return sign * (x - y) || (latents.latent[a] ?? 0) - (latents.latent[b] ?? 0);
  });
}

/** "border:0.1:,label_entropy::1.2" and back. */
export function readRanges(text: string | undefined): Range[] {
  return (text ?? "").split(",").flatMap((part) => {
    const [key, low, high] = part.split(":");
    const bound = (value: string | undefined): number | null =>
      value && Number.isFinite(Number(value)) ? Number(value) : null;
    return key ? [{ key, low: bound(low), high: bound(high) }] : [];
  });
}
export const writeRanges = (ranges: readonly Range[]): string =>
  ranges.map(({ key, low, high }) => `${key}:${low ?? ""}:${high ?? ""}`).join(",");

export function readLasso(text: string | undefined): Point[] {
  const points = (text ?? "")
    .split(";")
    .map((part) => part.split(",").map(Number))
    .filter((point) => point.length === 2 && point.every(Number.isFinite)) as Point[];
  return points.length > 2 ? points : [];
}
/** At most `most` of the corners, so that an address stays short. */
export function writeLasso(points: readonly Point[], most = 40): string {
  const step = Math.max(1, points.length / most);
  return Array.from(
    { length: Math.min(points.length, most) },
    (_, i): Point => points[Math.floor(i * step)] ?? [0, 0],
  )
    .map(([x, y]) => `${Number(x.toPrecision(4))},${Number(y.toPrecision(4))}`)
    .join(";");
}
