/** Annotations that the server has not acknowledged yet, kept in the browser so that no reload or crash loses one. */
import type { Annotation, Judgement } from "../types";

/** Which annotations are which: `key` names an autoencoder in a database; the folder's name is for people alone. */
export interface Origin {
  key: string;
  name: string;
  autoencoder: string;
}
export interface Draft {
  annotation: Annotation;
  time: number;
  /** Null in one that an earlier version wrote. */ origin: Origin | null;
  /** Names the worklist in every database. */ uid: string | null;
  /** What was sent and not answered: the server may have stored any of it. */ sent: Annotation[];
}
/** A draft and where it is kept. */
export interface Unsent extends Draft {
  at: string;
  study: string;
}
export type Store = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;

const PREFIX = "cytosae:unsent:";
/** Of an earlier version, which kept drafts by the name of the study's folder. */
const EARLIER = "cytosae:draft:";

export const draftKey = (
  a: Pick<Annotation, "worklist" | "dataset" | "latent" | "rater">,
  study: string,
): string =>
  PREFIX +
  JSON.stringify([study, a.worklist === null ? null : String(a.worklist), a.dataset, a.latent, a.rater]);

export function writeDraft(store: Store, draft: Draft & { origin: Origin }): boolean {
  try {
    store.setItem(draftKey(draft.annotation, draft.origin.key), JSON.stringify(draft));
    return true;
  } catch {
    return false;
  }
}

export function readDraft(store: Store, key: string): Draft | null {
  try {
    const entry = JSON.parse(store.getItem(key) ?? "null") as Partial<Draft> | null;
    if (!entry || typeof entry.annotation?.latent !== "number" || typeof entry.annotation.rater !== "string")
      return null;
    return {
      annotation: entry.annotation,
      time: entry.time ?? 0,
      origin: entry.origin ?? null,
      uid: entry.uid ?? null,
      sent: Array.isArray(entry.sent) ? entry.sent : [],
    };
  } catch {
    return null;
  }
}

/** All drafts in this browser, of whatever study and rater, oldest first. */
export function allDrafts(store: Store): Unsent[] {
  const entry: Unsent[] = [];
  for (let i = 0; i < store.length; i++) {
    const at = store.key(i) ?? "";
    if (!at.startsWith(PREFIX) && !at.startsWith(EARLIER)) continue;
    const draft = readDraft(store, at);
    if (draft) entry.push({ ...draft, at, study: draft.origin?.name ?? earlierName(at) });
  }
  return entry.sort((a, b) => a.time - b.time);
}

/** Drafts that a page of a study may send: those of its key. An earlier version's are sent when the rater says so. */
export const draftsOf = (store: Store, study: string, rater: string): Draft[] =>
  allDrafts(store).filter(
    (draft) => draft.annotation.rater === rater && draft.at === draftKey(draft.annotation, study),
  );

function earlierName(at: string): string {
  try {
    return String((JSON.parse(at.slice(EARLIER.length)) as unknown[])[0]);
  } catch {
    return "";
  }
}

/** Makes a draft of an earlier version one of a study; a newer draft of the same concept stays. */
export function takeOver(store: Store, unsent: Unsent, origin: Origin, uid: string | null): boolean {
  const there = readDraft(store, draftKey(unsent.annotation, origin.key));
  if (there && there.time >= unsent.time) return false;
  const { annotation, time, sent } = unsent;
  if (!writeDraft(store, { annotation, time, origin, uid, sent })) return false;
  store.removeItem(unsent.at);
  return true;
}

/** Drafts of one study together; those of an earlier version by the name of its folder. */
export function groupsOf(drafts: readonly Unsent[]): Unsent[][] {
  const groups = new Map<string, Unsent[]>();
  for (const draft of drafts) {
    const name = draft.origin?.key ?? EARLIER + draft.study;
    groups.set(name, [...(groups.get(name) ?? []), draft]);
  }
  return [...groups.values()];
}

/** As `cytosae annotations import` reads them; all of one autoencoder. */
export function asFile(drafts: readonly Draft[], version: string): object {
  const autoencoder = drafts[0]?.origin?.autoencoder;
  return {
    format: "cytosae-annotations",
    cytosae: version,
    inputs: autoencoder ? { sae: autoencoder } : {},
    worklists: [],
    annotations: drafts.map(({ annotation: a, time, uid }) => ({
      worklist: uid,
      dataset: a.dataset,
      latent: a.latent,
      rater: a.rater,
      verdict: a.verdict,
      name: a.name.trim(),
      comment: a.comment,
      terms: a.terms,
      specific_for: a.specific_for,
      version: a.version + 1,
      created: new Date(time).toISOString(),
      updated: new Date(time).toISOString(),
      history: [],
    })),
  };
}

export function same(a: Judgement, b: Judgement): boolean {
  const plain = (j: Judgement): string =>
    JSON.stringify([
      j.verdict ?? null,
      j.name.trim(),
      j.comment,
      j.specific_for ?? null,
      Object.entries(j.terms)
        .filter(([, terms]) => terms.length)
        .map(([key, terms]) => [key, [...terms].sort()])
        .sort(),
    ]);
  return plain(a) === plain(b);
}

/** What to do with a draft that is found beside what the server has. */
export function settle(
  draft: Pick<Draft, "annotation" | "sent"> | null,
  stored: Annotation | null,
): "none" | "done" | "send" | "conflict" {
  if (!draft) return "none";
  if (stored && same(draft.annotation, stored)) return "done";
  const own = stored !== null && draft.sent.some((one) => same(one, stored));
  return own || draft.annotation.version === (stored?.version ?? 0) ? "send" : "conflict";
}

export const blank = (): Judgement => ({
  verdict: null,
  name: "",
  comment: "",
  terms: {},
  specific_for: null,
});
