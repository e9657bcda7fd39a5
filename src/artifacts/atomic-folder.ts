import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, rmdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { ConfigError } from "../errors.ts";
import { isThere, readingError } from "../base/read-file.ts";

/** The record that every folder of ours holds; a folder without it is not ours to replace. */
const RECORD = "prelort.json";

export interface Placement<T> {
  /** Where the folder is to be. */
  readonly target: string;
  /** Replace one that was written so before. */
  readonly overwrite: boolean;
  /** What it is and comes from; `prelort.json`. */
  readonly record: object;
  /** Writes the rest of it. */
  fill(folder: string): Promise<T>;
}

/** Makes a folder whole or not at all: aside, on the disk, then renamed. What was there under its name stays until then. */
export async function placeFolder<T>({ target, overwrite, record, fill }: Placement<T>): Promise<T> {
  const entries = isThere(target) ? await readdir(target).catch((cause: NodeJS.ErrnoException) => unlistable(target, cause)) : [];
  if (entries.length > 0 && !overwrite)
    refuse(target, "is not empty; overwrite (--overwrite) replaces what an export wrote there, out (--out) names another");
  if (entries.length > 0 && !entries.includes(RECORD))
    refuse(target, `holds files that no export wrote (there is no ${RECORD}); remove them, or name another`);

  const aside = `${target}.partial-${randomBytes(4).toString("hex")}`;
  await mkdir(aside, { recursive: true });
  try {
    const filled = await fill(aside);
    await writeFile(path.join(aside, RECORD), `${JSON.stringify(record, null, 2)}\n`);
    await flush(aside);
    await swap(aside, target);
    return filled;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

function unlistable(target: string, cause: NodeJS.ErrnoException): never {
  if (cause.code === "ENOTDIR") refuse(target, "is a file; name a folder");
  throw readingError(target, cause);
}

function refuse(target: string, message: string): never {
  throw new ConfigError([{ path: "out", message: `${target} ${message}` }]);
}

/** A name that outlasts the machine's power must not come before what it names. */
async function flush(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const handle = await open(path.join(entry.parentPath, entry.name), "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

async function swap(aside: string, target: string): Promise<void> {
  const replaced = `${aside}.replaced`;
  if (isThere(target)) await rmdir(target).catch(() => rename(target, replaced));
  try {
    await rename(aside, target);
  } catch (error) {
    if (isThere(replaced)) await rename(replaced, target);
    throw error;
  }
  await rm(replaced, { recursive: true, force: true });
}
