import { readFileSync } from "node:fs";
import path from "node:path";

const readme = readFileSync(path.join(import.meta.dirname, "../../../src/records/README.md"), "utf8");

export interface DocumentedFile {
  /** Such as `rounds/<n>/global.safetensors`. */
  readonly name: string;
  /** Matches the paths of such files below a run's folder. */
  readonly pattern: RegExp;
  /** The file with its schema, of those that this folder defines. */
  readonly schema: string | undefined;
}

/** The table of `src/records/README.md`. */
export const documentedFiles: readonly DocumentedFile[] = [...readme.matchAll(/^\| `([^`]+)` \|.*?\|(?: `([^`]+)`)? \|$/gm)].map(
  ([, name = "", schema]) => {
    const literal = name
      .replaceAll(".", "\\.")
      .replaceAll(/<[nk]>/g, "\\d+")
      .replaceAll(/<\w+>/g, "[^/]+");
    return { name, pattern: new RegExp(`^${literal}${name.endsWith("/") ? "" : "$"}`), schema };
  },
);
