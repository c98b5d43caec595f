/** A small stand-in for the server while developing: `npm run dev` without `CYTOSAE`. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Plugin } from "vite";
import { answer, picture } from "./data.ts";

async function body(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  try {
    return JSON.parse(Buffer.concat(parts).toString() || "null");
  } catch {
    return null;
  }
}

export const mock = (): Plugin => ({
  name: "cytosae-mock",
  configureServer(server) {
    server.middlewares.use("/api", (request: IncomingMessage, response: ServerResponse) => {
      void (async () => {
        const url = new URL(request.url ?? "/", "http://mock"),
          parts = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
        if (parts.at(-1) === "image") {
          response.setHeader("content-type", "image/svg+xml");
          response.end(picture(Number(parts.at(-2))));
          return;
        }
        const [status, found] = answer(request.method ?? "GET", parts, url.searchParams, await body(request));
        response.statusCode = status;
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify(found));
      })();
    });
  },
});
