import { expect, test } from "vitest";
import {
  allDrafts,
  asFile,
  draftKey,
  draftsOf,
  groupsOf,
  readDraft,
  same,
  settle,
  takeOver,
  writeDraft,
  type Origin,
} from "../src/lib/drafts";
import type { Annotation } from "../src/types";
import { Store } from "./store";

const annotation = (part: Partial<Annotation> = {}): Annotation => ({
  worklist: 1,
  dataset: "pbc",
  latent: 5,
  rater: "AB",
  verdict: null,
  name: "",
  comment: "",
  terms: {},
  specific_for: null,
  version: 0,
  ...part,
});
const study: Origin = { key: "s", name: "my-study", autoencoder: "a".repeat(64) },
  namesake: Origin = { key: "t", name: "my-study", autoencoder: "b".repeat(64) };
const draft = (part: Partial<Annotation> = {}, time = 1, origin = study, uid: string | null = "list") => ({
  annotation: annotation(part),
  time,
  origin,
  uid,
  sent: [] as Annotation[],
});
/** As an earlier version kept them. */
const earlier = (store: Store, name: string, part: Partial<Annotation> = {}, time = 1): void => {
  const a = annotation(part);
  store.setItem(
    "cytosae:draft:" + JSON.stringify([name, String(a.worklist), a.dataset, a.latent, a.rater]),
    JSON.stringify({ annotation: a, time }),
  );
};

test("drafts are kept by study, worklist, concept and rater", () => {
  const store = new Store();
  store.setItem("other", "{}");
  store.setItem("cytosae:unsent:broken", "{");
  store.setItem("cytosae:draft:broken", "{");
  expect(writeDraft(store, draft({ name: "second" }, 2))).toBe(true);
  writeDraft(store, draft({ latent: 6 }));
  writeDraft(store, draft({ rater: "CD" }));
  writeDraft(store, draft({}, 1, namesake));
  expect(draftsOf(store, "s", "AB").map((found) => found.annotation.latent)).toEqual([6, 5]);
  expect(readDraft(store, draftKey(annotation(), "s"))?.annotation.name).toBe("second");
  expect(writeDraft(store, draft({ comment: "x".repeat(6000) }, 3))).toBe(false);
});

test("two studies of one name share no draft", () => {
  const store = new Store();
  writeDraft(store, draft({ name: "of the one" }));
  writeDraft(store, draft({ name: "of the other" }, 1, namesake));
  expect(draftsOf(store, "s", "AB").map((found) => found.annotation.name)).toEqual(["of the one"]);
  expect(draftsOf(store, "t", "AB").map((found) => found.annotation.name)).toEqual(["of the other"]);
  expect(groupsOf(allDrafts(store)).map((group) => group.length)).toEqual([1, 1]);
});

test("drafts of an earlier version are shown and sent when the rater says so, never by themselves", () => {
  const store = new Store();
  earlier(store, "my-study", { name: "old" }, 4);
  earlier(store, "my-study", { name: "old too", latent: 6 }, 5);
  writeDraft(store, draft({ name: "newer" }, 9));
  expect(draftsOf(store, "s", "AB").map((found) => found.annotation.name)).toEqual(["newer"]);
  const found = allDrafts(store).filter((one) => !one.origin);
  expect(found.map((one) => [one.study, one.annotation.name])).toEqual([
    ["my-study", "old"],
    ["my-study", "old too"],
  ]);
  expect(found.map((one) => takeOver(store, one, study, null))).toEqual([false, true]);
  expect(draftsOf(store, "s", "AB").map((one) => one.annotation.name)).toEqual(["old too", "newer"]);
  expect(
    allDrafts(store)
      .filter((one) => !one.origin)
      .map((one) => one.annotation.name),
  ).toEqual(["old"]);
  store.most = 10; // a full store: the old one stays
  const [old] = allDrafts(store).filter((one) => !one.origin);
  expect(old && takeOver(store, old, namesake, null)).toBe(false);
  expect(allDrafts(store)).toHaveLength(3);
});

test("unsent judgements as a file that can be imported", () => {
  const file = asFile([draft({ name: " granules ", version: 2 }, 1000)], "1.0");
  expect(file).toEqual({
    format: "cytosae-annotations",
    cytosae: "1.0",
    inputs: { sae: "a".repeat(64) },
    worklists: [],
    annotations: [
      {
        worklist: "list",
        dataset: "pbc",
        latent: 5,
        rater: "AB",
        verdict: null,
        name: "granules",
        comment: "",
        terms: {},
        specific_for: null,
        version: 3,
        created: "1970-01-01T00:00:01.000Z",
        updated: "1970-01-01T00:00:01.000Z",
        history: [],
      },
    ],
  });
  expect(
    asFile([{ annotation: annotation(), time: 1, origin: null, uid: null, sent: [] }], "1.0"),
  ).toMatchObject({
    inputs: {},
  });
});

test("what is done with a draft", () => {
  expect(settle(null, annotation())).toBe("none");
  expect(settle(draft({ name: "a" }), null)).toBe("send");
  expect(settle(draft({ name: "a", version: 2 }), annotation({ version: 2 }))).toBe("send");
  const overtaken = draft({ name: "a", version: 1 });
  expect(settle(overtaken, annotation({ name: "b", version: 2 }))).toBe("conflict");
  expect(settle(draft({ name: "a ", version: 1 }), annotation({ name: "a", version: 2 }))).toBe("done");
  overtaken.sent = [annotation({ name: "b", version: 1 })];
  expect(settle(overtaken, annotation({ name: "b", version: 2 }))).toBe("send");
  expect(settle(overtaken, annotation({ name: "c", version: 2 }))).toBe("conflict");
});

test("the order of terms and empty groups make no difference", () => {
  expect(
    same(
      annotation({ terms: { nucleus: ["a", "b"], granules: [] } }),
      annotation({ terms: { nucleus: ["b", "a"] } }),
    ),
  ).toBe(true);
  expect(same(annotation({ verdict: "artefact" }), annotation())).toBe(false);
});
