/** Client of the explorer's API. Paths, parameters, bodies and answers are typed by what the server describes. */
import { address, type Parameters } from "./address";
import type { paths } from "./schema";

export const isStatic =
  typeof document !== "undefined" &&
  document.querySelector('meta[name="cytosae-static"]')?.getAttribute("content") === "true";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly body: unknown = null,
  ) {
    super(message);
  }
}

type Path = keyof paths;
type Method = "get" | "post" | "put" | "patch";
type Operation<P extends Path, M extends Method> = NonNullable<paths[P][M]>;
type Json<Content> = Content extends { content: { "application/json": infer Body } } ? Body : never;
type Answer<P extends Path, M extends Method> =
  Operation<P, M> extends { responses: infer R } ? Json<R[keyof R & (200 | 201)]> : never;
type Body<P extends Path, M extends Method> =
  Operation<P, M> extends { requestBody: infer R } ? Json<R> : never;
type Known<T> = [T] extends [undefined] ? unknown : NonNullable<T>;
/** Parameters of path and query together. */
type Given<P extends Path, M extends Method> =
  Operation<P, M> extends { parameters: { path?: infer InPath; query?: infer InQuery } }
    ? Known<InPath> & Known<InQuery>
    : never;
/** Nothing has to be given where no parameter is required. */
type Arguments<G> = Record<never, never> extends G ? [given?: G] : [given: G];
type With<M extends Method> = { [P in Path]: paths[P][M] extends undefined ? never : P }[Path];

const STATUS: Record<number, string> = {
  0: "The explorer does not answer. Is “cytosae explore” still running?",
  401: "This page needs its token. Open the address that “cytosae explore” printed.",
  403: "The explorer refuses this request. Open the address that “cytosae explore” printed.",
  404: isStatic
    ? "Not in this export. Start “cytosae explore” on the study to see it."
    : "Not in this study. Check the address.",
};

async function request<R>(url: string, options?: RequestInit): Promise<R> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, STATUS[0] ?? "");
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) {
    const detail = body && typeof body === "object" && "detail" in body ? body.detail : null;
    throw new ApiError(
      response.status,
      typeof detail === "string"
        ? detail
        : (STATUS[response.status] ?? `The explorer failed with status ${response.status}. See its output.`),
      body,
    );
  }
  if (body === null)
    throw new ApiError(response.status, "The explorer's answer cannot be read. Reload the page.");
  return body as R;
}

/** Whose annotations this page shows. The server refuses those of another study, which may have the same address. */
export const shown = { key: "" };
const origin = (): Record<string, string> => (shown.key && !isStatic ? { "cytosae-study": shown.key } : {});

/** Relative address of what a path answers, for links and images. */
export const addressOf = <P extends With<"get">>(path: P, ...[given]: Arguments<Given<P, "get">>): string =>
  address(path, given as Parameters, isStatic);

/** Answers that do not change while a page is open, most recently used last. */
const kept = new Map<string, Promise<unknown>>();
const KEPT = 600;

/** Asks once while the page is open. */
export function get<P extends With<"get">>(
  path: P,
  ...given: Arguments<Given<P, "get">>
): Promise<Answer<P, "get">> {
  const url = addressOf(path, ...given);
  const pending = (kept.get(url) as Promise<Answer<P, "get">> | undefined) ?? request<Answer<P, "get">>(url);
  kept.delete(url);
  kept.set(url, pending);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value ?? "");
  pending.catch(() => kept.get(url) === pending && kept.delete(url));
  return pending;
}

/** Asks every time: for what changes while people judge. */
export const getAgain = <P extends With<"get">>(
  path: P,
  ...given: Arguments<Given<P, "get">>
): Promise<Answer<P, "get">> => request(addressOf(path, ...given), { cache: "no-store", headers: origin() });

export const send = <M extends Exclude<Method, "get">, P extends With<M>>(
  method: M,
  path: P,
  body: Body<P, M>,
  ...[given]: Arguments<Given<P, M>>
): Promise<Answer<P, M>> =>
  request(address(path, given as Parameters), {
    method: method.toUpperCase(),
    headers: { "content-type": "application/json", ...origin() },
    body: JSON.stringify(body),
  });

export function upload(files: readonly File[]): Promise<Answer<"/api/uploads", "post">> {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  return request(address("/api/uploads"), { method: "POST", body: form });
}

/** A cell of the study, or an uploaded one. */
export type CellPlace = { dataset: string; row: number } | { id: string; index: number };
type ImageSize = NonNullable<Given<"/api/cells/{dataset}/{row}/image", "get">["size"]>;

export const imageAddress = (place: CellPlace, size: ImageSize = "224"): string =>
  "id" in place
    ? addressOf("/api/uploads/{id}/{index}/image", { id: place.id, index: place.index, size })
    : addressOf("/api/cells/{dataset}/{row}/image", { dataset: place.dataset, row: place.row, size });
export const fieldAddress = (dataset: string, index: number, size: "320" | "1600"): string =>
  addressOf("/api/fields/{dataset}/{index}/image", { dataset, index, size });
export const patchesOf = (place: CellPlace) =>
  "id" in place
    ? get("/api/uploads/{id}/{index}/patches", place)
    : get("/api/cells/{dataset}/{row}/patches", place);
export const similarTo = (place: CellPlace) =>
  "id" in place
    ? get("/api/uploads/{id}/{index}/similar", place)
    : get("/api/cells/{dataset}/{row}/similar", place);
export const mapOf = (place: CellPlace, latent: number) =>
  "id" in place
    ? get("/api/uploads/{id}/{index}/maps/{latent}", { ...place, latent })
    : get("/api/cells/{dataset}/{row}/maps/{latent}", { ...place, latent });
