/**
 * What a scatter draws, and how a renderer is chosen. regl needs `new Function`, which the explorer's policy forbids.
 */
import { canvasRenderer } from "./canvas";
import { glRenderer } from "./gl";

export interface Points {
  /** Places between 0 and 1, y upwards; NaN where a point has none. In order of drawing. */
  x: Float32Array;
  y: Float32Array;
  /** RGBA, four bytes of each point. */
  colour: Uint8Array;
  /** Diameter in CSS pixels. */
  size: Float32Array;
}
/** The part of the unit square that is seen. */
export interface Window {
  left: number;
  right: number;
  bottom: number;
  top: number;
}
export const WHOLE: Window = { left: 0, right: 1, bottom: 0, top: 1 };

export interface Renderer {
  kind: "webgl" | "canvas";
  load: (points: Points) => void;
  /** Width and height in CSS pixels. */
  draw: (window: Window, width: number, height: number, ratio: number) => void;
  dispose: () => void;
}

export const makeRenderer = (canvas: HTMLCanvasElement, onlost: () => void): Renderer =>
  glRenderer(canvas, onlost) ?? canvasRenderer(canvas);

/** A window zoomed about a place within it, never larger than the whole. */
export function zoomed(window: Window, x: number, y: number, factor: number): Window {
  const width = Math.min(1, Math.max(1e-3, (window.right - window.left) * factor)),
    height = Math.min(1, Math.max(1e-3, (window.top - window.bottom) * factor));
  const fx = (x - window.left) / (window.right - window.left),
    fy = (y - window.bottom) / (window.top - window.bottom);
  return kept({
    left: x - fx * width,
    right: x + (1 - fx) * width,
    bottom: y - fy * height,
    top: y + (1 - fy) * height,
  });
}

/** Moved back so that nothing beyond the whole is seen. */
export function kept({ left, right, bottom, top }: Window): Window {
  const dx = left < 0 ? -left : right > 1 ? 1 - right : 0,
    dy = bottom < 0 ? -bottom : top > 1 ? 1 - top : 0;
  return { left: left + dx, right: right + dx, bottom: bottom + dy, top: top + dy };
}

/** The nearest point within `reach` pixels, of those that may be hit. */
export function nearest(
  points: Points,
  may: (i: number) => boolean,
  window: Window,
  width: number,
  height: number,
  px: number,
  py: number,
  reach = 12,
): number | null {
  const sx = width / (window.right - window.left),
    sy = height / (window.top - window.bottom);
  let best: number | null = null,
    distance = reach * reach;
  for (let i = points.x.length - 1; i >= 0; i--) {
    const dx = ((points.x[i] ?? NaN) - window.left) * sx - px,
      dy = (window.top - (points.y[i] ?? NaN)) * sy - py;
    const d = dx * dx + dy * dy;
    if (d < distance && may(i)) {
      distance = d;
      best = i;
    }
  }
  return best;
}
