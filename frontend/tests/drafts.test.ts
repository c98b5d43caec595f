import { expect, test } from "vitest";
import { draftKey, draftsOf, readDraft, same, settle, writeDraft } from "../src/lib/drafts";
import type { Annotation } from "../src/types";

const annotation = (part: Partial<Annotation> = {}): Annotation =>
  ({ worklist: 1, dataset: "pbc", latent: 5, rater: "AB", verdict: null, name: "", comment: "", terms: {}, specific_for: null, version: 0, ...part });

class Store {
  kept = new Map<string, string>();
  get length(): number { return this.kept.size; }
  getItem = (key: string): string | null => this.kept.get(key) ?? null;
  setItem = (key: string, value: string): void => { if (value.length > 5000) throw new Error("full"); this.kept.set(key, value); };
  removeItem = (key: string): void => { this.kept.delete(key); };
  key = (i: number): string | null => [...this.kept.keys()][i] ?? null;
}

test("drafts are kept by study, worklist, concept and rater", () => {
  const store = new Store();
  store.setItem("other", "{}");
  store.setItem("cytosae:draft:broken", "{");
  expect(writeDraft(store, "s", { annotation: annotation({ name: "second" }), time: 2 })).toBe(true);
  writeDraft(store, "s", { annotation: annotation({ latent: 6 }), time: 1 });
  writeDraft(store, "s", { annotation: annotation({ rater: "CD" }), time: 1 });
  writeDraft(store, "other study", { annotation: annotation(), time: 1 });
  expect(draftsOf(store, "s", "AB").map(draft => draft.annotation.latent)).toEqual([6, 5]);
  expect(readDraft(store, draftKey(annotation(), "s"))?.annotation.name).toBe("second");
  expect(writeDraft(store, "s", { annotation: annotation({ comment: "x".repeat(6000) }), time: 3 })).toBe(false);
});

test("what is done with a draft", () => {
  expect(settle(null, annotation())).toBe("none");
  expect(settle(annotation({ name: "a" }), null)).toBe("send");
  expect(settle(annotation({ name: "a", version: 2 }), annotation({ version: 2 }))).toBe("send");
  expect(settle(annotation({ name: "a", version: 1 }), annotation({ name: "b", version: 2 }))).toBe("conflict");
  expect(settle(annotation({ name: "a ", version: 1 }), annotation({ name: "a", version: 2 }))).toBe("done");
});

test("the order of terms and empty groups make no difference", () => {
  expect(same(annotation({ terms: { nucleus: ["a", "b"], granules: [] } }), annotation({ terms: { nucleus: ["b", "a"] } }))).toBe(true);
  expect(same(annotation({ verdict: "artefact" }), annotation())).toBe(false);
});
