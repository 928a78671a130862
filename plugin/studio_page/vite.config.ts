import { defineConfig } from "vite";

import { noteSources } from "./sources";

const OUT = "../diptych/studio/page";

// One script and one style sheet under fixed names: the server serves them with an ETag, and an exported page holds both.
export default defineConfig({
  base: "./",
  plugins: [noteSources(OUT)],
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
