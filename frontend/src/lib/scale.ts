/** Axes: where a value lies between 0 and 1, and which values get a tick. */

export interface Axis {
  low: number;
  high: number;
  log: boolean;
}

/** The range of the values, with a little air. Values that a logarithm cannot show are left out of it. */
export function axisOf(values: Iterable<number | null | undefined>, log: boolean, air = 0.03): Axis {
  let low = Infinity,
    high = -Infinity;
  for (const value of values) {
    if (value === null || value === undefined || !Number.isFinite(value) || (log && value <= 0)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return log ? { low: 0.1, high: 1, log } : { low: 0, high: 1, log };
  if (log) {
    const span = Math.max(Math.log10(high / low), 0.1) * air;
    return { low: low / 10 ** span, high: high * 10 ** span, log };
  }
  const span = (high - low || Math.abs(high) || 1) * air;
  return { low: low - span, high: high + span, log };
}

/** 0 to 1 within the axis, beyond it outside; NaN where the value has no place. */
export function place(axis: Axis, value: number | null | undefined): number {
  if (value === null || value === undefined) return NaN;
  if (axis.log) return value > 0 ? Math.log(value / axis.low) / Math.log(axis.high / axis.low) : NaN;
  return (value - axis.low) / (axis.high - axis.low);
}

export function unplace(axis: Axis, share: number): number {
  return axis.log ? axis.low * (axis.high / axis.low) ** share : axis.low + share * (axis.high - axis.low);
}

export function ticks(axis: Axis, wanted = 5): number[] {
  if (axis.log) {
    const from = Math.ceil(Math.log10(axis.low) - 1e-9),
      to = Math.floor(Math.log10(axis.high) + 1e-9),
      decades = to - from + 1;
    if (decades >= 3) {
      const step = Math.ceil(decades / (wanted + 1));
      return Array.from({ length: Math.ceil(decades / step) }, (_, i) => 10 ** (from + i * step));
    }
    const fine: number[] = [];
    for (let e = from - 1; e <= to; e++)
      for (const m of [1, 2, 5])
        if (m * 10 ** e >= axis.low && m * 10 ** e <= axis.high) fine.push(m * 10 ** e);
    if (fine.length > 1) return fine;
  }
  const raw = (axis.high - axis.low) / wanted,
    power = 10 ** Math.floor(Math.log10(raw));
  const step = power * (raw / power > 5 ? 10 : raw / power > 2 ? 5 : raw / power > 1 ? 2 : 1);
  const out: number[] = [];
  for (let i = Math.ceil(axis.low / step); i * step <= axis.high + step * 1e-9; i++)
    out.push(Number((i * step).toPrecision(12)));
  return out;
}

/** Counts of equally wide bins along an axis. */
export function histogram(axis: Axis, values: Iterable<number | null | undefined>, bins: number): number[] {
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) {
    const share = place(axis, value);
    if (share >= 0 && share <= 1) {
      const bin = Math.min(bins - 1, Math.floor(share * bins));
      counts[bin] = (counts[bin] ?? 0) + 1;
    }
  }
  return counts;
}
