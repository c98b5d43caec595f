/** Numbers and names as people read them. */

/** Three significant digits; very small ones as powers of ten. */
export function number(value: number | null | undefined, digits = 3): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0 || (value < 0 && value > -1e-6)) return "0";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6)
    return value
      .toExponential(digits - 2)
      .replace("e-", "e−")
      .replace("e+", "e")
      .replace(/^-/, "−");
  return Number(value.toPrecision(digits)).toString().replace("-", "−");
}

export const percent = (share: number | null | undefined): string =>
  share === null || share === undefined
    ? "–"
    : share > 0 && share < 0.001
      ? "< 0.1 %"
      : `${Number((100 * share).toPrecision(3))} %`;

/** A measure of a latent: fractions in percent. */
export const figure = (key: string, value: number | null | undefined): string =>
  key === "border" || /_(share|frequency)$/.test(key) ? percent(value) : number(value);

/** p values and false-discovery rates. */
export const rate = (value: number | null | undefined): string =>
  value === null || value === undefined ? "–" : value < 0.001 ? "< 0.001" : value.toFixed(3);

export const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
export const words = (text: string): string => text.replaceAll("_", " ");
export const plural = (count: number, one: string, many = one + "s"): string =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export function clock(time: Date | string): string {
  const date = typeof time === "string" ? new Date(time) : time;
  return Number.isNaN(date.valueOf())
    ? String(time)
    : date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}
export function day(time: string): string {
  const date = new Date(time);
  return Number.isNaN(date.valueOf())
    ? time
    : date.toLocaleString("en-GB", {
        day: "numeric",
        month: "short",
        year: "numeric",
        hour: "2-digit",
        minute: "2-digit",
      });
}
