/** Colours that are told apart with any colour vision. */

export type ScaleName = "viridis" | "cividis";
export type RGB = readonly [number, number, number];

/** Seventeen even steps of matplotlib's maps. */
const STEPS: Record<ScaleName, readonly RGB[]> = {
  viridis: [
    [68, 1, 84],
    [72, 24, 106],
    [71, 45, 123],
    [66, 64, 134],
    [59, 82, 139],
    [51, 99, 141],
    [44, 114, 142],
    [38, 130, 142],
    [33, 145, 140],
    [31, 160, 136],
    [40, 174, 128],
    [63, 188, 115],
    [94, 201, 98],
    [132, 212, 75],
    [173, 220, 48],
    [216, 226, 25],
    [253, 231, 37],
  ],
  cividis: [
    [0, 34, 78],
    [0, 46, 106],
    [26, 56, 111],
    [50, 67, 109],
    [67, 78, 108],
    [83, 90, 109],
    [97, 101, 111],
    [111, 112, 115],
    [125, 124, 120],
    [140, 136, 120],
    [155, 148, 118],
    [171, 160, 114],
    [188, 174, 108],
    [205, 187, 99],
    [222, 201, 88],
    [240, 216, 70],
    [254, 232, 56],
  ],
};

/** Okabe and Ito 2008: orange, sky blue, green, yellow, blue, vermilion, purple. */
export const OKABE_ITO = [
  "#e69f00",
  "#56b4e9",
  "#009e73",
  "#f0e442",
  "#0072b2",
  "#d55e00",
  "#cc79a7",
] as const;
export const FIRST = OKABE_ITO[5];
export const SECOND = OKABE_ITO[4];

export function colourOf(scale: ScaleName, share: number): RGB {
  const steps = STEPS[scale],
    at = Math.min(1, Math.max(0, share || 0)) * (steps.length - 1);
  const lower = Math.min(steps.length - 2, Math.floor(at)),
    rest = at - lower;
  const a = steps[lower] ?? [0, 0, 0],
    b = steps[lower + 1] ?? a;
  return [a[0] + (b[0] - a[0]) * rest, a[1] + (b[1] - a[1]) * rest, a[2] + (b[2] - a[2]) * rest];
}

export const css = ([r, g, b]: RGB): string => `rgb(${Math.round(r)} ${Math.round(g)} ${Math.round(b)})`;

export function gradient(scale: ScaleName): string {
  return `linear-gradient(to right, ${STEPS[scale].map(css).join(", ")})`;
}

export function hexOf(colour: string): RGB {
  const value = parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
