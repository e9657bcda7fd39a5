import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, rmdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { argumentError } from "../errors.ts";
import { isThere, readingError } from "../base/read-file.ts";

/** The record in every exported folder. A folder without it is never replaced. */
const RECORD = "prelort.json";

export interface Placement<T> {
  /** Path of the folder. */
  readonly target: string;
  /** Replace an earlier export. */
  readonly overwrite: boolean;
  /** Contents of the folder and their origin, for `prelort.json`. */
  readonly record: object;
  /** Writes the rest of the folder. */
  fill(folder: string): Promise<T>;
}

/** Creates a folder atomically: writes it beside its target, flushes and renames it. An earlier export is kept until then. */
export async function placeFolder<T>({ target, overwrite, record, fill }: Placement<T>): Promise<T> {
  const entries = isThere(target) ? await readdir(target).catch((cause: NodeJS.ErrnoException) => unlistable(target, cause)) : [];
  if (entries.length > 0 && !overwrite)
    refuse(target, "is not empty; replace an earlier export with overwrite (--overwrite), or choose another folder with out (--out)");
  if (entries.length > 0 && !entries.includes(RECORD))
    refuse(target, `is not an earlier export (it has no ${RECORD}); remove its files, or choose another folder`);

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
  if (cause.code === "ENOTDIR") refuse(target, "is a file; choose a folder");
  throw readingError(target, cause);
}

function refuse(target: string, message: string): never {
  throw argumentError("out", `${target} ${message}`);
}

/** Before the rename, so that a power cut cannot leave a folder without its files. */
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
