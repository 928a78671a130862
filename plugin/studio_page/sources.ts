import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const FILES = ["answer_types.py", "index.html", "package-lock.json", "package.json", "sources.ts", "tsconfig.json", "vite.config.ts"];
const FOLDERS = ["public", "src"];

/** Writes sources.sha256 beside the built page, as sha256sum would, so that a test notices a page that was not built again. */
export function noteSources(out: string): Plugin {
  return {
    name: "note-sources",
    closeBundle() {
      const found = FOLDERS.flatMap((folder) =>
        readdirSync(folder, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name)),
      );
      const lines = [...FILES, ...found].sort().map((file) => {
        const hash = createHash("sha256").update(readFileSync(file)).digest("hex");
        return `${hash}  ${file.replaceAll("\\", "/")}\n`;
      });
      writeFileSync(join(out, "sources.sha256"), lines.join(""));
    },
  };
}
