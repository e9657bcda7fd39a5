import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, relative, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isFile } from "../base/read-file.ts";

/**
 * SHA-256 of a JavaScript or TypeScript module and of every file that it imports by a relative path, an absolute one or a file URL,
 * directly or indirectly, each by its path relative to the module's folder, sorted; a symbolic link counts as the file that it leads
 * to, as for Node. Finds imports anywhere in the source, also in comments, but not of a file whose name is computed. Packages are left
 * out. Rejects if a file cannot be read.
 */
export async function hashModule(file: string): Promise<Readonly<Record<string, string>>> {
  const hashes = new Map<string, string>();
  const waiting = [file];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (hashes.has(next)) continue;
    const bytes = await readFile(next);
    hashes.set(next, createHash("sha256").update(bytes).digest("hex"));
    if (/\.[cm]?[jt]s$/.test(next)) waiting.push(...importsOf(bytes.toString("utf8"), next));
  }
  const name = (path: string) => relative(dirname(file), path).split(sep).join("/");
  return Object.fromEntries([...hashes].map(([path, sha256]) => [name(path), sha256] as const).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** What Node adds to the path that `require` is given. */
const ENDINGS = ["", ".js", ".cjs", ".json", "/index.js"];

const IMPORT = /\b(?:from|import|require)\b(?:[\s(]|\/\*(?:[^*]|\*(?!\/))*\*\/|\/\/.*\n)*(["'`])((?:\.{0,2}\/|file:)[^"'`\n]+)\1/g;

function importsOf(source: string, importer: string): readonly string[] {
  return [...source.matchAll(IMPORT)].flatMap(([, , name = ""]) => {
    const paths = [pathOf(name, importer), resolve(dirname(importer), name)].filter((each) => each !== undefined);
    const found = paths.flatMap((each) => ENDINGS.map((ending) => `${each}${ending}`)).find((each) => isFile(each));
    return found === undefined ? [] : realpathSync(found);
  });
}

/** What `import` makes of a name, which is a URL: with %20 for a space, and perhaps a query. Undefined if it names no file. */
function pathOf(name: string, importer: string): string | undefined {
  try {
    return fileURLToPath(new URL(name, pathToFileURL(importer)));
  } catch {
    return undefined;
  }
}
