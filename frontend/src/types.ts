/** Shapes of the explorer's API; see the server's `explorer/schemas/`. */

export interface Measure {
  key: string;
  label: string;
  log: boolean;
  help: string;
}
export interface NamedCount {
  name: string;
  cells: number;
}
export interface DatasetInfo {
  name: string;
  cells: number;
  concepts: number;
  labels: NamedCount[];
  diagnoses: NamedCount[];
  kinds: string[];
  has_patients: boolean;
}
export interface Study {
  name: string;
  version: string;
  static: boolean;
  n_latents: number;
  grid: [number, number];
  tau: number;
  concept_threshold: number;
  backbone: { name: string; layer: number; depth: number; d_model: number };
  datasets: DatasetInfo[];
  measures: Measure[];
  has: { patients: boolean; classification: boolean; quality: boolean; tokens: boolean; uploads: boolean };
  groups: Record<string, string[]>;
  /** Null in a static export. */
  annotations: {
    key: string;
    autoencoder: string;
    study: string | null;
    /** Why nothing can be judged here. */ notice: string | null;
  } | null;
  former: Former[];
  /** In a static export: the latents of each data set that have a page. */
  exported?: Record<string, number[]> | null;
}

/** An autoencoder that the study had before. */
export interface Former {
  digest: string;
  command: string;
  trained: string | null;
  judgements: number | null;
}

export type Column = (number | null)[];
/** Columns of equal length, one entry for each latent that is active in the data set. */
export interface Latents {
  latent: number[];
  concept: number[];
  top_label: number[];
  [measure: string]: Column;
}

export interface GroupMean {
  name: string;
  cells: number;
  mean: number;
  frequency: number;
}
export interface Concept {
  latent: number;
  dataset: string;
  is_concept: boolean;
  statistics: Record<string, number | null>;
  datasets: Record<string, { activation_frequency: number; mean_activation: number; is_concept: boolean }>;
  by_label: GroupMean[];
  by_diagnosis: GroupMean[];
  similar: { latent: number; cosine: number }[];
  quality: Record<string, number | string | null> | null;
  flags: { border: boolean; background: boolean | null };
}

export interface CellName {
  row: number;
  cell_id: string;
  label: string | null;
  patient: string | null;
  diagnosis: string | null;
}
export interface MappedCell extends CellName {
  value: number;
  map: string | null;
}
export interface ConceptImages {
  kind: string;
  top: number;
  cells: MappedCell[];
}
export interface CellPage {
  total: number;
  cells: CellName[];
}
export interface CellConcept {
  latent: number;
  mean_activation: number;
  count: number;
  common: boolean;
}
export interface Cell extends CellName {
  width: number | null;
  height: number | null;
  n_active: number;
  concepts: CellConcept[];
  common_share: number;
}
export interface Patches {
  grid: [number, number];
  top: number;
  patches: [number, number][][];
}
export interface LatentMap {
  latent: number;
  top: number;
  map: string;
}

export interface PatientRow {
  id: string;
  dataset: string;
  n_cells: number;
  diagnosis: string | null;
  [column: string]: string | number | null;
}
export interface PatientList {
  patients: PatientRow[];
  columns: string[];
}
export interface PlacedCell {
  dataset: string;
  row: number;
  cell_id: string;
  label: string | null;
}
export interface Unusual {
  latent: number;
  patient: number;
  group: number;
  t: number;
  p: number;
  fdr: number;
  /** Patients of the group with as much. */ above: number;
}
export interface Prediction {
  predicted: string;
  truth: string | null;
  unseen: boolean;
  classes: { name: string; probability: number }[];
  concepts: { latent: number; adds: number }[];
  cells: (PlacedCell & { adds: number })[];
}
export interface Patient {
  patient: PatientRow;
  groups: { name: string; patients: number }[];
  /** Null where no group has three other patients. */
  against: {
    name: string;
    patients: number;
    rule: string;
    unusual: number;
    concepts: Unusual[];
    cells: (PlacedCell & { score: number })[];
  } | null;
  barcode: { latents: number[]; patient: number[]; group: number[] };
  prediction: Prediction | null;
  caveats: string[];
}

export interface Difference {
  latent: number;
  first: number;
  second: number;
  difference: number;
  low: number | null;
  high: number | null;
  effect: number | null;
  auroc: number | null;
  p: number | null;
  fdr: number | null;
}
export interface Comparison {
  first: { name: string; patients: number };
  second: { name: string; patients: number };
  tested: number;
  scatter: { latent: number[]; first: number[]; second: number[] };
  top_first: Difference[];
  top_second: Difference[];
  caveats: string[];
  warnings: { kind: string; text: string }[];
}
export interface SideCell extends MappedCell {
  dataset: string;
}
export interface ComparisonImages {
  first: SideCell[];
  second: SideCell[];
  top: number;
}

export interface UploadedCell {
  index: number;
  name: string;
  width?: number;
  height?: number;
  n_active?: number;
  concepts: CellConcept[];
}
export interface Upload {
  id: string;
  cells: UploadedCell[];
}

export type Verdict = "meaningful" | "artefact" | "cannot tell";
export type Terms = Record<string, string[]>;
export interface Judgement {
  verdict: Verdict | null;
  name: string;
  comment: string;
  terms: Terms;
  specific_for: string | null;
}
export interface Annotation extends Judgement {
  worklist: number | null;
  dataset: string;
  latent: number;
  rater: string;
  version: number;
  created?: string;
  updated?: string;
}
export interface HistoryRow extends Judgement {
  time: string;
  rater: string;
  version?: number;
}
export interface ListItem {
  dataset: string;
  latent: number;
}
export interface WorklistHead {
  id: number;
  uid: string;
  title: string;
  created: string;
  source: string | null;
  questions?: unknown;
  blind_labels: boolean;
  blind_raters: boolean;
  disease?: string | null;
  raters: Record<string, number>;
}
export interface WorklistSummary extends WorklistHead {
  items: number;
}
export interface WorklistItem extends ListItem {
  position: number;
  annotation: Annotation | null;
  others: Annotation[];
}
export interface Worklist extends WorklistHead {
  items: WorklistItem[];
}
export interface GivenName {
  name: string;
  raters: string[];
}
export interface AgreedName {
  name: string;
  /** Of the rater who asks. */ own: string;
  given: GivenName[];
  raters: number;
  verdicts: Record<Verdict, number>;
}
export type Names = Record<string, AgreedName>;
export interface Shares {
  x: number;
  y: number;
  first_ten: { x: number; y: number };
}
export interface Summary {
  worklist: number | null;
  items: number;
  raters: { name: string; done: number; meaningful: number; artefact: number; cannot_tell: number }[];
  meaningful: Shares;
  agreement: {
    cohen: { raters: [string, string]; kappa: number | null; n: number }[];
    fleiss: { kappa: number | null; raters: number; items: number } | null;
  };
  specific?: (Shares & { disease: string }) | null;
  names: { dataset: string; latent: number; given: GivenName[] }[];
}
