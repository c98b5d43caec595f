/** The one place that knows where things are fetched: the server's API, or the files of a static export. */

export type Parameters = Record<string, string | number | boolean | null | undefined>;

/**
 * Relative address of a path of the API, such as `/api/latents/{dataset}`: parameters that the path names are filled
 * in, and the others make the query.
 *
 * In a static export files are named by the encoded path, so that the encoding has to be encoded once more to be
 * fetched. Query parameters stay at their defaults there.
 */
export function address(path: string, given: Parameters = {}, isStatic = false): string {
  const left = new Map(Object.entries(given));
  const resource = path.replace(/^\/api\//, "").replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = encodeURIComponent(String(left.get(name)));
    left.delete(name);
    return value;
  });
  if (isStatic) {
    const ending = resource.endsWith("/image") ? ".jpg" : ".json";
    return "data/" + resource.split("/").map(encodeURIComponent).join("/") + ending;
  }
  const query = [...left].flatMap(([name, value]) =>
    value === undefined || value === null || value === "" ? [] : [[name, String(value)]],
  );
  return "api/" + resource + (query.length ? "?" + new URLSearchParams(query).toString() : "");
}
