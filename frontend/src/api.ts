/** Typed client of the explorer's API. */
import { address, path, type Query } from "./address";
import type * as T from "./types";

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

const STATUS: Record<number, string> = {
  0: "The explorer does not answer. Is “cytosae explore” still running?",
  401: "This page needs its token. Open the address that “cytosae explore” printed.",
  403: "This is not allowed from here.",
  404: isStatic ? "This is not part of the exported pages." : "There is no such thing in this study.",
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
        : (STATUS[response.status] ?? `The explorer answered with ${response.status}.`),
      body,
    );
  }
  if (body === null)
    throw new ApiError(response.status, "The explorer's answer cannot be read. Reload the page.");
  return body as R;
}

/** Answers that do not change while a page is open, most recently used last. */
const kept = new Map<string, Promise<unknown>>();
const KEPT = 600;

function fixed<R>(resource: string, query: Query = {}): Promise<R> {
  const url = address(resource, query, isStatic);
  const found = (kept.get(url) as Promise<R> | undefined) ?? request<R>(url);
  kept.delete(url);
  kept.set(url, found);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value ?? "");
  found.catch(() => kept.get(url) === found && kept.delete(url));
  return found;
}
/** Whose judgements this page shows. The server refuses those of another study, which may have the same address. */
export const shown = { key: "" };
const origin = (): Record<string, string> => (shown.key && !isStatic ? { "cytosae-study": shown.key } : {});
const fresh = <R>(resource: string, query: Query = {}): Promise<R> =>
  request<R>(address(resource, query, isStatic), { cache: "no-store", headers: origin() });
const send = <R>(method: string, resource: string, body: unknown, query: Query = {}): Promise<R> =>
  request<R>(address(resource, query), {
    method,
    headers: { "content-type": "application/json", ...origin() },
    body: JSON.stringify(body),
  });

/** Where a cell's image and what belongs to it live: a cell of the study or an uploaded one. */
export interface CellPlace {
  base: string;
}
export const studyCell = (dataset: string, row: number): CellPlace => ({ base: path("cells", dataset, row) });
export const uploadedCell = (id: string, index: number): CellPlace => ({ base: path("uploads", id, index) });

export type ImageSize = 64 | 112 | 224 | 448;
export const imageAddress = (place: CellPlace, size: ImageSize = 224): string =>
  address(place.base + "/image", place.base.startsWith("uploads/") && size === 224 ? {} : { size }, isStatic);

export const api = {
  study: () => fixed<T.Study>("study"),
  latents: (dataset: string) => fixed<T.Latents>(path("latents", dataset)),
  concept: (dataset: string, latent: number) => fixed<T.Concept>(path("latents", dataset, latent)),
  images: (dataset: string, latent: number, kind: string) =>
    fixed<T.ConceptImages>(path("latents", dataset, latent, "images", kind)),
  cells: (dataset: string, query: Query) => fixed<T.CellPage>(path("cells", dataset), query),
  cell: (dataset: string, row: number) => fixed<T.Cell>(path("cells", dataset, row)),
  patches: (place: CellPlace) => fixed<T.Patches>(place.base + "/patches"),
  map: (place: CellPlace, latent: number) => fixed<T.LatentMap>(place.base + "/" + path("maps", latent)),
  patients: () => fixed<T.PatientList>("patients"),
  patient: (id: string, against?: string) => fixed<T.Patient>(path("patients", id), { against }),
  compare: (first: string, second: string, adjust?: string) =>
    fixed<T.Comparison>(path("compare", first, second), { adjust }),
  compareImages: (first: string, second: string, latent: number) =>
    fixed<T.ComparisonImages>(path("compare", first, second, "images", latent)),
  upload: (files: File[]) => {
    const form = new FormData();
    for (const file of files) form.append("files", file, file.name);
    return request<T.Upload>(address("uploads"), { method: "POST", body: form });
  },

  names: (rater?: string) => fresh<T.Names>("names", { rater }),
  vocabulary: () => fixed<T.Terms>("vocabulary"),
  worklists: () => fresh<T.WorklistSummary[]>("worklists"),
  worklist: (id: string, rater: string) => fresh<T.Worklist>(path("worklists", id), { rater }),
  makeWorklist: (body: {
    title: string;
    items: T.ListItem[];
    blind_labels: boolean;
    blind_raters: boolean;
    disease: string | null;
    source: string;
  }) => send<T.Worklist>("POST", "worklists", body),
  importWorklist: (content: unknown, query: Query) =>
    send<T.Worklist>("POST", "worklists/import", content, query),
  changeWorklist: (id: string, body: { title?: string; blind_labels?: boolean; blind_raters?: boolean }) =>
    send<T.Worklist>("PATCH", path("worklists", id), body),
  annotate: (annotation: T.Annotation) => send<T.Annotation>("PUT", "annotations", annotation),
  annotations: (query: { latent?: number; rater?: string; asking?: string }) =>
    fresh<T.Annotation[]>("annotations", query),
  history: (dataset: string, latent: number, rater?: string) =>
    fresh<T.HistoryRow[]>(path("annotations", dataset, latent, "history"), { rater }),
  summary: (worklist: string, rater?: string) => fresh<T.Summary>("summary", { worklist, rater }),
  exportAddress: (format: "csv" | "json", rater?: string) => address("annotations/export", { format, rater }),
};
