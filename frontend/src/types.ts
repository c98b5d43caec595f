/** Short names for what the server describes (`npm run types` writes it), and what is the page's own. */
import type { components } from "./schema";

export type Schema<Name extends keyof components["schemas"]> = components["schemas"][Name];

export type Study = Schema<"StudyInfo">;
export type DatasetInfo = Schema<"DataSetInfo">;
export type Measure = Schema<"Measure">;
export type Latents = Schema<"LatentTable">;
export type CellConcept = Schema<"CellConcept">;
export type TuningCurve = Schema<"TuningCurve">;
export type ChangedClass = Schema<"ChangedClass">;
export type MeanChange = Schema<"MeanChange">;
export type MappedCell = Schema<"MappedCell">;
export type LatentImages = Schema<"LatentImages">;
export type PatientRow = Schema<"PatientRow">;
export type Difference = Schema<"Difference">;
export type ComparedCell = Schema<"PatientCell">;
export type ScoredCell = Schema<"ScoredCell">;
export type CellPlaceInField = Schema<"CellField">;
export type Interval = Schema<"Interval">;
export type Chance = Schema<"Chance">;
export type Upload = Schema<"Uploaded">;
export type RefusedFile = Schema<"RefusedFile">;
export type UploadedCell = Schema<"UploadedCell">;
export type Stored = Schema<"Annotation">;
export type Verdict = NonNullable<Stored["verdict"]>;
export type Terms = Stored["terms"];
export type ListItem = Schema<"ItemRequest">;
export type WorklistSummary = Schema<"WorklistSummary">;
export type WorklistItem = Schema<"WorklistItem">;
export type Fractions = Schema<"Fractions">;
export type AgreedName = Schema<"Named">;
/** By latent. */
export type Names = Record<string, AgreedName>;

type Times = "created" | "updated";
/** One that the server need not have stored yet. */
export type Annotation = Omit<Stored, Times> & Partial<Pick<Stored, Times>>;
/** Which latent, by whom, in which worklist. */
export type Place = Pick<Stored, "worklist" | "dataset" | "latent" | "rater">;
/** What the rater says. */
export type Judgement = Omit<Stored, keyof Place | "version" | Times>;

export type Mark = Schema<"Mark">;
export type MarkKind = Mark["mark"];
export type MarkedConcept = Schema<"MarkedConcept">;
export type LearnedConcept = Schema<"LearnedConcept">;
export type NextCell = Schema<"NextCell">;
