/** Judgements that the server has not acknowledged yet, kept in the browser so that no reload or crash loses one. */
import type { Annotation, Judgement } from "../types";

export interface Draft { annotation: Annotation; time: number }
type Store = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;

const PREFIX = "cytosae:draft:";

export const draftKey = (a: Pick<Annotation, "worklist" | "dataset" | "latent" | "rater">, study = ""): string =>
  PREFIX + JSON.stringify([study, a.worklist === null ? null : String(a.worklist), a.dataset, a.latent, a.rater]);

export function writeDraft(store: Store, study: string, draft: Draft): boolean {
  try {
    store.setItem(draftKey(draft.annotation, study), JSON.stringify(draft));
    return true;
  } catch {
    return false;
  }
}

export function readDraft(store: Store, key: string): Draft | null {
  try {
    const found = JSON.parse(store.getItem(key) ?? "null") as Draft | null;
    return found && typeof found.annotation?.latent === "number" ? found : null;
  } catch {
    return null;
  }
}

/** All drafts of a rater in a study, oldest first. */
export function draftsOf(store: Store, study: string, rater: string): Draft[] {
  const found: Draft[] = [];
  for (let i = 0; i < store.length; i++) {
    const key = store.key(i) ?? "";
    if (!key.startsWith(PREFIX)) continue;
    const draft = readDraft(store, key);
    if (draft && draft.annotation.rater === rater && draftKey(draft.annotation, study) === key) found.push(draft);
  }
  return found.sort((a, b) => a.time - b.time);
}

export function same(a: Judgement, b: Judgement): boolean {
  const plain = (j: Judgement): string => JSON.stringify([
    j.verdict ?? null, j.name.trim(), j.comment, j.specific_for ?? null,
    Object.entries(j.terms).filter(([, terms]) => terms.length).map(([key, terms]) => [key, [...terms].sort()]).sort(),
  ]);
  return plain(a) === plain(b);
}

/** What to do with a draft that is found beside what the server has. */
export function settle(draft: Annotation | null, stored: Annotation | null): "none" | "done" | "send" | "conflict" {
  if (!draft) return "none";
  if (stored && same(draft, stored)) return "done";
  return draft.version === (stored?.version ?? 0) ? "send" : "conflict";
}

export const blank = (): Judgement => ({ verdict: null, name: "", comment: "", terms: {}, specific_for: null });
