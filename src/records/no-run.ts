import { readdir } from "node:fs/promises";
import path from "node:path";
import { isFile, isThere } from "../base/read-file.ts";
import { nearest } from "../config/nearest.ts";
import { LOCK } from "./lock.ts";

/** What a folder without `run.json` is instead of a run, by its absolute path, and what to do. */
export async function describeNoRun(directory: string): Promise<string> {
  const root = path.resolve(directory);
  if (!isThere(root)) return `there is no folder ${root}; ${await suggest(root)}`;
  if (isFile(root)) return `${root} is a file; ${EXAMPLE}`;
  const [run] = await runsIn(root);
  if (run !== undefined) return `${root} is a folder of runs, not a run: give one of them, such as ${path.join(root, run)}`;
  if (isThere(path.join(root, LOCK))) {
    return `the run in ${root} has written no ${RECORD} yet: wait for it, or, if it was killed, start it again with prelort run`;
  }
  return `${root} holds no run: there is no ${RECORD} in it; ${EXAMPLE}, or start a run with prelort run`;
}

/** What may have been meant by a folder that is not there. */
async function suggest(root: string): Promise<string> {
  const parent = path.dirname(root);
  const runs = await runsIn(parent);
  const meant = nearest(path.basename(root), runs);
  if (meant !== undefined) return `did you mean ${path.join(parent, meant)}?`;
  if (runs.length === 0) return `${EXAMPLE}, or start a run with prelort run`;
  const shown = runs.slice(0, MOST_NAMED).join(", ");
  return `the runs in ${parent} are ${shown}${runs.length > MOST_NAMED ? ` and ${runs.length - MOST_NAMED} others` : ""}`;
}

/** Names of the runs in a folder, in order. */
async function runsIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder).catch(() => []);
  return entries.filter((name) => existsIn(path.join(folder, name))).toSorted();
}

/** A folder that must not be looked into holds no run. */
function existsIn(folder: string): boolean {
  try {
    return isFile(path.join(folder, RECORD));
  } catch {
    return false;
  }
}

const RECORD = "run.json";
const EXAMPLE = "give a run's folder, such as runs/quickstart";
const MOST_NAMED = 5;
