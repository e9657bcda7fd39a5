import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import { parseJson } from "../base/json.ts";
import { changed } from "./resume-check.ts";
import { list } from "./schema.ts";

/* `data-files.json`: every file of a run's data with its SHA-256, so that a resume can name those that have changed. */

export const DATA_FILES = "data-files.json";

const dataFiles = list(
  z.object({
    /** The config key that leads to the file, or the row that names it. */
    part: z.string(),
    name: z.string(),
    sha256: z.string(),
  }),
);
/** A worker's list of sources; the data's files are some of them. */
const listedSources = z.object({ files: dataFiles });

/** A file with examples: one that a config key leads to, or one that a row of such a file names. */
export type DataFile = z.output<typeof dataFiles>[number];

/** The data's files, from a worker's list of sources; undefined if that list cannot be read here. */
export async function listDataFiles({ sources }: WorkerMessageOf<"prepared">): Promise<readonly DataFile[] | undefined> {
  if (!sources) return undefined;
  const listed = listedSources.safeParse(parseJson(await readText(sources.path)));
  return listed.data?.files.filter(({ part }) => /\bdata\.(eval_)?path$/.test(part));
}

/** Describes the first few changes since `recorded`, a run's data-files.json, was written. */
export async function changedDataFiles(recorded: string, now: readonly DataFile[] | undefined): Promise<readonly string[]> {
  const before = dataFiles.safeParse(parseJson(await readText(recorded))).data;
  if (!before || !now) return [];
  const [was, is] = [byName(before), byName(now)];
  const names = [...new Set([...was.keys(), ...is.keys()])].filter((name) => was.get(name) !== is.get(name));
  const changes = names.slice(0, MOST_NAMED).map((name) => changed(name, was.get(name), is.get(name)));
  return names.length > MOST_NAMED ? [...changes, `and ${names.length - MOST_NAMED} more files`] : changes;
}

const MOST_NAMED = 5;

function byName(files: readonly DataFile[]): ReadonlyMap<string, string> {
  const hashes = new Map<string, string>();
  for (const { part, name, sha256 } of files) {
    const called = part.startsWith("row of ") ? `${name}, which a ${part} names,` : name;
    // Two files with the same name count as unchanged only if both are.
    hashes.set(called, [hashes.get(called), sha256].filter(Boolean).join("+"));
  }
  return hashes;
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    // The list may be on a worker's machine.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}
