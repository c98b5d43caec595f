/** The same points on a plain canvas, where there is no WebGL. */
import type { Points, Renderer } from "./points";

export function canvasRenderer(canvas: HTMLCanvasElement): Renderer {
  const context = canvas.getContext("2d");
  let points: Points | null = null;
  return {
    kind: "canvas",
    load(given): void {
      points = given;
    },
    draw(window, width, height, ratio): void {
      if (!context || !points) return;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      context.scale(ratio, ratio);
      const sx = width / (window.right - window.left),
        sy = height / (window.top - window.bottom);
      for (let i = 0; i < points.x.length; i++) {
        const x = ((points.x[i] ?? NaN) - window.left) * sx,
          y = (window.top - (points.y[i] ?? NaN)) * sy,
          radius = (points.size[i] ?? 0) / 2;
        if (!(x > -radius && x < width + radius && y > -radius && y < height + radius)) continue;
        const [r, g, b, a] = points.colour.subarray(4 * i, 4 * i + 4);
        context.fillStyle = `rgb(${r} ${g} ${b} / ${(a ?? 255) / 255})`;
        context.beginPath();
        context.arc(x, y, radius, 0, 7);
        context.fill();
      }
    },
    dispose(): void {
      points = null;
    },
  };
}
