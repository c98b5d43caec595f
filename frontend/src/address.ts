/** The one place that knows where things are fetched: the server's API, or the files of a static export. */

export type Query = Record<string, string | number | boolean | null | undefined>;

/** Encodes the parts of a path, such as a data set's name with a slash in it. */
export function path(...parts: (string | number)[]): string {
  return parts.map((part) => encodeURIComponent(String(part))).join("/");
}

function search(query: Query): string {
  const given = Object.entries(query).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  return given.length
    ? "?" + new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString()
    : "";
}

/**
 * Relative address of a resource of the API.
 *
 * In a static export files are named by the encoded path, so that the encoding has to be
 * encoded once more to be fetched.
 * Query parameters stay at their defaults there.
 */
export function address(resource: string, query: Query = {}, isStatic = false): string {
  if (!isStatic) return "api/" + resource + search(query);
  const ending = resource.endsWith("/image") ? ".jpg" : ".json";
  return "data/" + resource.split("/").map(encodeURIComponent).join("/") + ending;
}
