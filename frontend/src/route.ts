/** Hash routing: every view has an address that can be sent around. */

export interface Route {
  view: string;
  parts: string[];
  query: Record<string, string>;
}

export function parse(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  const [view = "", ...parts] = path
    .split("/")
    .filter((part) => part !== "")
    .map(decode);
  return { view, parts, query: Object.fromEntries(new URLSearchParams(search)) };
}

export function href(
  view: string,
  parts: (string | number)[] = [],
  query: Record<string, string | number | null | undefined> = {},
): string {
  const given = Object.entries(query).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  const search = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
  return (
    "#/" +
    [view, ...parts.map((part) => encodeURIComponent(String(part)))].join("/") +
    (search ? "?" + search : "")
  );
}

/** The same view with some query parameters changed; empty ones are left out. */
export const withQuery = (route: Route, change: Record<string, string | number | null | undefined>): string =>
  href(route.view, route.parts, { ...route.query, ...change });

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** "7,9" -> index of the patch in a grid, or null where it names none. */
export function patchIndex(
  text: string | undefined,
  [rows, columns]: readonly [number, number],
): number | null {
  const match = /^(\d+),(\d+)$/.exec(text ?? "");
  const row = Number(match?.[1]),
    column = Number(match?.[2]);
  return match && row < rows && column < columns ? row * columns + column : null;
}
export const patchName = (index: number, columns: number): string =>
  `${Math.floor(index / columns)},${index % columns}`;
