/** The values of barcodes that the pages of a patient and of a comparison show, as they are written in addresses. */
export const FEATURES = {
  counts: "mean count",
  share: "share of cells",
  top: "5 strongest cells",
  strongest: "strongest cell",
} as const;
export const TRANSFORMS = { none: "as it is", log1p: "log(1 + x)", sqrt: "square root" } as const;
export const ORDERS = {
  difference: "difference",
  effect: "effect size",
  reach: "patients who reach a level",
} as const;
type Query = Readonly<Record<string, string | undefined>>;

/** Reads a choice from an address; undefined for the default and for what is no choice. */
const reader =
  <Choices extends Readonly<Record<string, string>>>(name: string, choices: Choices) =>
  (query: Query): (keyof Choices & string) | undefined =>
    Object.keys(choices)
      .slice(1)
      .find((choice) => choice === query[name]);

export const featuresOf = reader("features", FEATURES);
export const transformOf = reader("transform", TRANSFORMS);
export const orderOf = reader("order", ORDERS);
