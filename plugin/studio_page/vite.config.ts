import { defineConfig, type Plugin } from "vite";

import { noteSources } from "./sources.ts";

const OUT = "../diptych_serve/studio/page";

/** The files come from the page's own server: no need to ask as another page would. */
const withoutCors: Plugin = {
  name: "without-cors",
  transformIndexHtml: { order: "post", handler: (html) => html.replaceAll(" crossorigin", "") },
};

// One script and one style sheet under fixed names: the server serves them with an ETag.
export default defineConfig({
  base: "./",
  plugins: [withoutCors, noteSources(OUT)],
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: "es2022",
    cssTarget: ["chrome123", "firefox121", "safari17.5"], // know light-dark()
    modulePreload: false,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    rollupOptions: {
      output: {
        codeSplitting: false,
        entryFileNames: "studio.js",
        assetFileNames: (asset) => (asset.names.some((name) => name.endsWith(".css")) ? "studio.css" : "[name][extname]"),
      },
    },
  },
});
