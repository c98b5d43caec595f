/** Points by WebGL 2, for many thousands of latents. */
import type { Points, Renderer } from "./points";

const VERTEX = `#version 300 es
in vec2 place; in vec4 colour; in float size;
uniform vec4 window; uniform float ratio;
out vec4 ink; out float edge;
void main() {
  vec2 at = (place - window.xy) / (window.zw - window.xy);
  gl_Position = vec4(2.0 * at - 1.0, 0.0, 1.0);
  gl_PointSize = size * ratio + 1.0;
  ink = colour; edge = gl_PointSize;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 ink; in float edge; out vec4 pixel;
void main() {
  float far = length(gl_PointCoord - 0.5) * edge;
  float alpha = ink.a * clamp(0.5 * edge - far, 0.0, 1.0);
  pixel = vec4(ink.rgb * alpha, alpha);
}`;

function compiled(gl: WebGL2RenderingContext): WebGLProgram | null {
  const program = gl.createProgram();
  for (const [type, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ] as const) {
    const shader = gl.createShader(type);
    if (!shader) return null;
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return gl.getProgramParameter(program, gl.LINK_STATUS) ? program : null;
}

export function glRenderer(canvas: HTMLCanvasElement, onlost: () => void): Renderer | null {
  const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
  const program = gl && compiled(gl);
  if (!gl || !program) return null;
  const lost = (event: Event): void => {
    event.preventDefault();
    onlost();
  };
  canvas.addEventListener("webglcontextlost", lost);
  const buffers: WebGLBuffer[] = [];
  const window_ = gl.getUniformLocation(program, "window"),
    ratio_ = gl.getUniformLocation(program, "ratio");
  let count = 0;

  const attribute = (
    name: string,
    data: Float32Array<ArrayBuffer> | Uint8Array,
    size: number,
    type: number,
    normalised: boolean,
  ): void => {
    const buffer = gl.createBuffer(),
      at = gl.getAttribLocation(program, name);
    buffers.push(buffer);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data as Float32Array<ArrayBuffer>, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, normalised, 0, 0);
  };

  return {
    kind: "webgl",
    load(points: Points): void {
      buffers.splice(0).forEach((buffer) => gl.deleteBuffer(buffer));
      count = points.x.length;
      const places = new Float32Array(2 * count);
      for (let i = 0; i < count; i++) {
        const x = points.x[i] ?? NaN,
          y = points.y[i] ?? NaN,
          shown = Number.isFinite(x) && Number.isFinite(y);
        places[2 * i] = shown ? x : -99;
        places[2 * i + 1] = shown ? y : -99;
      }
      attribute("place", places, 2, gl.FLOAT, false);
      attribute("colour", points.colour, 4, gl.UNSIGNED_BYTE, true);
      attribute("size", Float32Array.from(points.size), 1, gl.FLOAT, false);
    },
    draw(window, width, height, ratio): void {
      const w = Math.round(width * ratio),
        h = Math.round(height * ratio);
      if (canvas.width !== w || canvas.height !== h) {
        canvas.width = w;
        canvas.height = h;
      }
      gl.viewport(0, 0, w, h);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.useProgram(program);
      gl.uniform4f(window_, window.left, window.bottom, window.right, window.top);
      gl.uniform1f(ratio_, ratio);
      gl.drawArrays(gl.POINTS, 0, count);
    },
    dispose(): void {
      canvas.removeEventListener("webglcontextlost", lost);
      buffers.forEach((buffer) => gl.deleteBuffer(buffer));
      gl.getExtension("WEBGL_lose_context")?.loseContext();
    },
  };
}
