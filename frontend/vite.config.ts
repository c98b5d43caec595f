import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";
import { mock } from "./mock/plugin.ts";

/** `CYTOSAE='http://127.0.0.1:8765/?token=...' npm run dev` talks to a running explorer; else the mock answers. */
const printed = process.env["CYTOSAE"];
const server = printed ? new URL(printed) : null;
const token = server?.searchParams.get("token");
const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};

export default defineConfig({
  base: "./",
  plugins: [svelte(), ...(server ? [] : [mock()])],
  server: server ? { proxy: { "/api": { target: server.origin, headers } } } : {},
  build: {
    outDir: "../src/cytosae/explorer/bundle",
    emptyOutDir: true,
    sourcemap: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    target: "es2022",
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
