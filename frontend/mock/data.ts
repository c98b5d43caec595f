/** Plausible answers in the shapes of the API, always the same. */
import type * as T from "../src/types.ts";

const ROWS = 16,
  LATENTS = 300,
  CELLS = 240;
const LABELS = ["blast", "lymphocyte", "monocyte", "segmented_neutrophil"],
  DIAGNOSES = ["APL", "NPM1", "healthy"];

/** 0 to 1, the same for the same numbers. */
const chance = (...seed: number[]): number => {
  const x = Math.sin(seed.reduce((sum, s, i) => sum + s * (12.9898 + 78.233 * i), 1)) * 43758.5453;
  return x - Math.floor(x);
};
const cell = (row: number): T.CellName => ({
  row,
  cell_id: `mock-${row}`,
  label: LABELS[row % 4] ?? null,
  patient: `P${row % 12}`,
  diagnosis: DIAGNOSES[row % 3] ?? null,
});
const frequency = (l: number): number => chance(l, 1) ** 2;
const mean = (l: number): number => 10 ** (-4 + 4 * chance(l, 2));

export function map(row: number, latent: number): string {
  const r = 3 + 10 * chance(row, latent),
    c = 3 + 10 * chance(latent, row, 7);
  return Buffer.from(
    Array.from({ length: ROWS * ROWS }, (_, i) =>
      Math.round(255 * Math.exp(-((Math.floor(i / ROWS) - r) ** 2 + ((i % ROWS) - c) ** 2) / 8)),
    ),
  ).toString("base64");
}
export const picture = (row: number): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" fill="#f2e3dc"/><circle cx="8" cy="10" r="9" fill="#d9a7ad"/><circle cx="56" cy="54" r="10" fill="#d9a7ad"/><circle cx="32" cy="32" r="${14 + 8 * chance(row)}" fill="#b9a4d6"/><circle cx="${28 + 8 * chance(row, 3)}" cy="31" r="${8 + 4 * chance(row, 4)}" fill="#5b3a8c"/></svg>`;

const mapped = (row: number, latent: number, value: number): T.MappedCell => ({
  ...cell(row),
  value,
  map: map(row, latent),
});
const images = (latent: number, kind: string): T.ConceptImages => ({
  kind,
  top: 3,
  cells: Array.from({ length: 10 }, (_, i) =>
    mapped(Math.floor(CELLS * chance(latent, i, kind.length)), latent, 2 - i / 10),
  ),
});
const concepts = (row: number): T.CellConcept[] =>
  Array.from({ length: 40 }, (_, i) => ({
    latent: Math.floor(LATENTS * chance(row, i)),
    mean_activation: 2 / (i + 1),
    count: 80 - 2 * i,
    common: i % 9 === 5,
  })).filter((one, i, all) => all.findIndex((other) => other.latent === one.latent) === i);
const patches = (row: number): T.Patches => ({
  grid: [ROWS, ROWS],
  top: 3,
  patches: Array.from({ length: ROWS * ROWS }, (_, p) =>
    Array.from({ length: 8 }, (_, i): [number, number] => [
      (Math.floor(LATENTS * chance(row, p)) + 7 * i) % LATENTS,
      3 / (i + 1),
    ]),
  ),
});

const study: T.Study = {
  name: "mock",
  version: "0",
  static: false,
  n_latents: LATENTS,
  grid: [ROWS, ROWS],
  tau: 0.2,
  concept_threshold: -3,
  backbone: { name: "mock", layer: 5, depth: 6, d_model: 192 },
  datasets: [
    {
      name: "mock",
      cells: CELLS,
      concepts: LATENTS,
      labels: LABELS.map((name) => ({ name, cells: 60 })),
      diagnoses: DIAGNOSES.map((name) => ({ name, cells: 80 })),
      kinds: ["reference", "random"],
      has_patients: true,
    },
  ],
  measures: [
    { key: "mean_activation", label: "mean activation", log: true, help: "" },
    { key: "activation_frequency", label: "frequency", log: true, help: "" },
    { key: "label_entropy", label: "label entropy", log: false, help: "" },
  ],
  has: { patients: true, classification: false, quality: false, tokens: true, uploads: true },
  groups: { diagnosis: DIAGNOSES, laboratory: ["a", "b"] },
  annotations: { key: "mock", autoencoder: "0".repeat(64), study: "0".repeat(64), notice: null },
  former: [],
};
const all = Array.from({ length: LATENTS }, (_, l) => l);
const patients: T.PatientRow[] = Array.from({ length: 12 }, (_, i) => ({
  id: `P${i}`,
  dataset: "mock",
  n_cells: 20,
  diagnosis: DIAGNOSES[i % 3] ?? null,
  laboratory: i % 2 ? "a" : "b",
}));
const difference = (latent: number): T.Difference => ({
  latent,
  first: 9 * chance(latent),
  second: 3 * chance(latent, 1),
  difference: 6 * chance(latent, 2),
  low: 1,
  high: 8,
  effect: 1.2,
  auroc: 0.8,
  p: 0.01,
  fdr: chance(latent, 3) / 5,
});

const worklists: T.Worklist[] = [];
const annotations = new Map<string, T.Annotation>();
const place = (a: Pick<T.Annotation, "worklist" | "dataset" | "latent" | "rater">): string =>
  [a.worklist, a.dataset, a.latent, a.rater].join("|");

function annotate(given: T.Annotation): [number, unknown] {
  const key = place(given),
    current = annotations.get(key) ?? null;
  if (given.version !== (current?.version ?? 0))
    return [409, { detail: "It was changed in another window.", current }];
  const stored = { ...given, version: given.version + 1, updated: new Date().toISOString() };
  annotations.set(key, stored);
  return [200, stored];
}
function listed(list: T.Worklist, rater: string | null): T.Worklist {
  return {
    ...list,
    items: list.items.map((item) => ({
      ...item,
      annotation: annotations.get(place({ ...item, worklist: list.id, rater: rater ?? "" })) ?? null,
    })),
  };
}
function made(given: {
  title: string;
  items: T.ListItem[];
  blind_labels?: boolean;
  blind_raters?: boolean;
  disease?: string | null;
  source?: string;
}): [number, unknown] {
  const list: T.Worklist = {
    id: worklists.length + 1,
    uid: `mock-${worklists.length + 1}`,
    title: given.title,
    created: new Date().toISOString(),
    source: given.source ?? "",
    blind_labels: given.blind_labels ?? false,
    blind_raters: given.blind_raters ?? false,
    disease: given.disease ?? null,
    raters: {},
    items: given.items.map((item, position) => ({ ...item, position, annotation: null, others: [] })),
  };
  worklists.push(list);
  return [201, list];
}

export function answer(
  method: string,
  parts: string[],
  query: URLSearchParams,
  body: unknown,
): [number, unknown] {
  const [what, a, b, c] = parts,
    none: [number, unknown] = [404, { detail: "The mock has no such thing." }];
  if (method === "PUT") return annotate(body as T.Annotation);
  if (method === "POST" && what === "worklists") return made(body as Parameters<typeof made>[0]);
  if (method === "POST" && what === "uploads")
    return [200, { id: "u", cells: [{ index: 0, name: "cell.png", concepts: concepts(1) }] }];
  if (what === "study") return [200, study];
  if (what === "names")
    return [
      200,
      {
        3: {
          name: "granules",
          own: "",
          given: [{ name: "granules", raters: ["AB"] }],
          raters: 1,
          verdicts: { meaningful: 1, artefact: 0, "cannot tell": 0 },
        },
      },
    ];
  if (what === "vocabulary") return [200, { nucleus: ["round", "lobed"], granules: ["azurophilic"] }];
  if (what === "latents" && b === undefined)
    return [
      200,
      {
        latent: all,
        concept: all.map((l) => Number(mean(l) > 1e-3)),
        mean_activation: all.map(mean),
        activation_frequency: all.map(frequency),
        label_entropy: all.map((l) => 1.4 * chance(l, 5)),
        top_label: all.map((l) => l % 4),
      },
    ];
  if (what === "latents" && c === "images") return [200, images(Number(b), parts[4] ?? "")];
  if (what === "latents") {
    const l = Number(b),
      one = { activation_frequency: frequency(l), mean_activation: mean(l), is_concept: true };
    return [
      200,
      {
        latent: l,
        dataset: a,
        is_concept: true,
        statistics: { mean_activation: mean(l), activation_frequency: frequency(l) },
        datasets: { mock: one },
        by_label: LABELS.map((name, i) => ({ name, cells: 60, mean: chance(l, i), frequency: 0.5 })),
        by_diagnosis: DIAGNOSES.map((name, i) => ({
          name,
          cells: 80,
          mean: chance(l, i, 1),
          frequency: 0.5,
        })),
        similar: [1, 2, 3].map((k) => ({ latent: (l + k) % LATENTS, cosine: 0.9 - k / 10 })),
        quality: null,
        flags: { border: l % 7 === 0, background: null },
      },
    ];
  }
  if ((what === "cells" || what === "uploads") && c === "patches") return [200, patches(Number(b))];
  if ((what === "cells" || what === "uploads") && c === "maps")
    return [200, { latent: Number(parts[4]), top: 3, map: map(Number(b), Number(parts[4])) }];
  if (what === "cells" && b === undefined)
    return [
      200,
      {
        total: CELLS,
        cells: Array.from({ length: 60 }, (_, i) => cell(Number(query.get("offset") ?? 0) + i)).filter(
          (one) => one.row < CELLS,
        ),
      },
    ];
  if (what === "cells")
    return [
      200,
      {
        ...cell(Number(b)),
        width: 224,
        height: 224,
        n_active: 40,
        concepts: concepts(Number(b)),
        common_share: 0.99,
      },
    ];
  if (what === "patients" && a === undefined)
    return [200, { patients, columns: ["diagnosis", "laboratory"] }];
  if (what === "patients")
    return [
      200,
      {
        patient: patients.find((one) => one.id === a) ?? patients[0],
        groups: DIAGNOSES.map((name) => ({ name, patients: 4 })),
        against: {
          name: query.get("against") ?? "healthy",
          patients: 4,
          rule: "The mock's.",
          unusual: 3,
          concepts: [1, 2, 3].map((latent) => ({
            latent,
            patient: 9,
            group: 2,
            t: 5 - latent,
            p: 0.001,
            fdr: 0.04,
            above: 0,
          })),
          cells: [0, 12, 24].map((row) => ({
            dataset: "mock",
            row,
            cell_id: `mock-${row}`,
            label: "blast",
            score: 9 - row / 12,
          })),
        },
        barcode: {
          latents: all.slice(0, 200),
          patient: all.slice(0, 200).map((l) => 9 * chance(l, 8)),
          group: all.slice(0, 200).map((l) => 9 * chance(l, 9)),
        },
        prediction: null,
        caveats: [],
      },
    ];
  if (what === "compare" && c === "images") {
    const of = Number(parts[4]),
      side = (start: number) =>
        [0, 1, 2, 3, 4].map((i) => ({ ...mapped(start + 13 * i, of, 2), dataset: "mock" }));
    return [200, { first: side(0), second: side(2), top: 3 }];
  }
  if (what === "compare")
    return [
      200,
      {
        first: { name: a, patients: 4 },
        second: { name: b, patients: 4 },
        tested: LATENTS,
        scatter: {
          latent: all,
          first: all.map((l) => 9 * chance(l)),
          second: all.map((l) => 3 * chance(l, 1)),
        },
        top_first: all.slice(0, 50).map(difference),
        top_second: all.slice(50, 100).map(difference),
        caveats: [],
        findings: [],
      },
    ];
  if (what === "worklists" && a === undefined)
    return [200, worklists.map((list) => ({ ...list, items: list.items.length }))];
  if (what === "worklists") {
    const list = worklists.find((one) => String(one.id) === a);
    return list ? [200, listed(list, query.get("rater"))] : none;
  }
  if (what === "annotations")
    return [
      200,
      b === undefined
        ? [...annotations.values()].filter((one) => String(one.latent) === query.get("latent"))
        : [],
    ];
  if (what === "summary")
    return [
      200,
      {
        worklist: null,
        items: 0,
        raters: [],
        meaningful: { x: 0, y: 0 },
        agreement: { cohen: [], fleiss: null },
        names: [],
      },
    ];
  return none;
}
