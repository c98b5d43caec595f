/** Concept maps: bytes of a grid of patches, enlarged and coloured. */
import { colourOf, type ScaleName } from "./colours";

/** Base64 of rows * columns bytes, 0 to 255 for 0 to the top of its set. */
export function decodeMap(text: string): Uint8Array {
  const raw = atob(text);
  return Uint8Array.from({ length: raw.length }, (_, i) => raw.charCodeAt(i));
}

/** Cubic between the centres of the patches, never outside of the map's own range. */
export function enlarge(
  map: ArrayLike<number>,
  [rows, columns]: readonly [number, number],
  factor: number,
): Float32Array {
  let low = Infinity,
    high = -Infinity;
  for (let i = 0; i < map.length; i++) {
    low = Math.min(low, map[i] ?? 0);
    high = Math.max(high, map[i] ?? 0);
  }
  const across = resample(map, rows, columns, factor);
  const down = transpose(
    resample(transpose(across, rows, columns * factor), columns * factor, rows, factor),
    columns * factor,
    rows * factor,
  );
  return down.map((value) => Math.min(high, Math.max(low, value)));
}

function transpose(values: ArrayLike<number>, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) turned[c * rows + r] = values[r * columns + c] ?? 0;
  return turned;
}

/** Catmull-Rom along the rows; beyond the border the outermost patch goes on. */
function resample(values: ArrayLike<number>, rows: number, columns: number, factor: number): Float32Array {
  const out = new Float32Array(rows * columns * factor);
  for (let x = 0; x < columns * factor; x++) {
    const place = (x + 0.5) / factor - 0.5,
      left = Math.floor(place),
      t = place - left;
    const weights = [
      (t * (t * (2 - t) - 1)) / 2,
      (t * t * (3 * t - 5) + 2) / 2,
      (t * (t * (4 - 3 * t) + 1)) / 2,
      (t * t * (t - 1)) / 2,
    ];
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let k = 0; k < 4; k++)
        sum +=
          (weights[k] ?? 0) * (values[r * columns + Math.min(columns - 1, Math.max(0, left - 1 + k))] ?? 0);
      out[r * columns * factor + x] = sum;
    }
  }
  return out;
}

/** RGBA of a map: colour and opacity grow with the activation, and where it is 0 nothing is drawn. */
export function paint(values: ArrayLike<number>, scale: ScaleName): Uint8ClampedArray<ArrayBuffer> {
  const pixels = new Uint8ClampedArray(4 * values.length);
  for (let i = 0; i < values.length; i++) {
    const strength = (values[i] ?? 0) / 255;
    const [r, g, b] = colourOf(scale, strength);
    pixels.set([r, g, b, 255 * strength], 4 * i);
  }
  return pixels;
}

/** A map whose own strongest patch has 255. */
export function stretched(map: Uint8Array): Uint8Array {
  const most = Math.max(1, ...map);
  return map.map((value) => Math.round((value * 255) / most));
}

/** A map whose 255 was worth `top`, as if it were worth `most`; what is above stays 255. */
export function rescaled(map: Uint8Array, top: number, most: number): Uint8Array {
  return map.map((value) => Math.min(255, Math.round((value * top) / most)));
}

/** The border between the patches above a value and the others, as an SVG path in patches. */
export function borderOf(
  map: ArrayLike<number>,
  [rows, columns]: readonly [number, number],
  above: number,
): string {
  const inside = (r: number, c: number): boolean =>
    r >= 0 && r < rows && c >= 0 && c < columns && (map[r * columns + c] ?? 0) > above;
  let path = "";
  for (let r = 0; r <= rows; r++)
    for (let c = 0; c <= columns; c++) {
      if (inside(r, c) !== inside(r - 1, c)) path += `M${String(c)} ${String(r)}h1`;
      if (inside(r, c) !== inside(r, c - 1)) path += `M${String(c)} ${String(r)}v1`;
    }
  return path;
}
