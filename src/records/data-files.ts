import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import { parseJson } from "../base/json.ts";
import { changed } from "./resume-check.ts";

/** A file that examples are made of: one that `part`, a key of the config, leads to, or that one of its rows names. */
export type DataFile = z.output<typeof dataFile>;

/** In the run directory: every file of the data, so that a resume can name what has changed. */
export const DATA_FILES = "data-files.json";

const dataFile = z.object({ part: z.string(), name: z.string(), sha256: z.string() });
const dataFiles = z.array(dataFile);

/** The files of the data, of those that a worker listed; undefined where it kept no list that can be read here. */
export async function listDataFiles({ sources }: WorkerMessageOf<"prepared">): Promise<readonly DataFile[] | undefined> {
  if (!sources) return undefined;
  const listed = z.object({ files: dataFiles }).safeParse(parseJson(await readText(sources.path)));
  return listed.data?.files.filter(({ part }) => /\bdata\.(eval_)?path$/.test(part));
}

/** What has changed, in words: the first few. `recorded` is a file that an earlier life of the run wrote. */
export async function changedDataFiles(recorded: string, now: readonly DataFile[] | undefined): Promise<readonly string[]> {
  const before = dataFiles.safeParse(parseJson(await readText(recorded))).data;
  if (!before || !now) return [];
  const [was, is] = [byName(before), byName(now)];
  const names = [...new Set([...was.keys(), ...is.keys()])].filter((name) => was.get(name) !== is.get(name));
  const told = names.slice(0, MOST_NAMED).map((name) => changed(name, was.get(name), is.get(name)));
  return names.length > MOST_NAMED ? [...told, `and ${names.length - MOST_NAMED} more files`] : told;
}

const MOST_NAMED = 5;

function byName(files: readonly DataFile[]): ReadonlyMap<string, string> {
  const hashes = new Map<string, string>();
  for (const { part, name, sha256 } of files) {
    const called = part.startsWith("row of ") ? `${name}, which a ${part} names,` : name;
    // One name in two places: only both together are the same.
    hashes.set(called, [hashes.get(called), sha256].filter(Boolean).join("+"));
  }
  return hashes;
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    // Workers may keep it where this process cannot look.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}
