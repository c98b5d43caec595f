import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

/** `npm run dev` shows a running explorer: CYTOSAE is the address that `cytosae explore` printed, with its token. */
const printed = process.env["CYTOSAE"] ?? "http://127.0.0.1:8765";
const { origin: target, searchParams } = new URL(printed);
const token = searchParams.get("token");

export default defineConfig({
  base: "./",
  plugins: [svelte()],
  server: {
    fs: { allow: [".."] }, // the glossary is a page of the documentation
    proxy: { "/api": { target, headers: token ? { authorization: `Bearer ${token}` } : {} } },
  },
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
