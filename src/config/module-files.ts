import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { dirname, relative, resolve, sep } from "node:path";
import { isFile } from "../base/read-file.ts";

/**
 * SHA-256 of a JavaScript or TypeScript module and of every file that it imports by a relative path, directly or indirectly, each by
 * its path relative to the module's folder, sorted. Finds imports anywhere in the source, also in comments, but not of a file whose
 * name is computed. Packages are left out. Rejects if a file cannot be read.
 */
export async function hashModule(file: string): Promise<Readonly<Record<string, string>>> {
  const hashes = new Map<string, string>();
  const waiting = [file];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (hashes.has(next)) continue;
    const bytes = await readFile(next);
    hashes.set(next, createHash("sha256").update(bytes).digest("hex"));
    if (/\.[cm]?[jt]s$/.test(next)) waiting.push(...importsOf(bytes.toString("utf8"), dirname(next)));
  }
  const name = (path: string) => relative(dirname(file), path).split(sep).join("/");
  return Object.fromEntries([...hashes].map(([path, sha256]) => [name(path), sha256] as const).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** What Node adds to the path that `require` is given. */
const ENDINGS = ["", ".js", ".cjs", ".json", "/index.js"];

function importsOf(source: string, folder: string): readonly string[] {
  const paths = [...source.matchAll(/\b(?:from|import|require)\b[\s(]*(["'`])(\.{1,2}\/[^"'`\n]+)\1/g)].map(([, , path = ""]) => path);
  return paths.flatMap((path) => ENDINGS.map((ending) => resolve(folder, `${path}${ending}`)).find((each) => isFile(each)) ?? []);
}
