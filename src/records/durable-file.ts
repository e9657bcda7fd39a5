import { constants } from "node:fs";
import { type FileHandle, mkdir, open, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { EnvironmentError } from "../errors.ts";

/**
 * Writes a file atomically: to `FILE.partial`, flushed, then renamed, with its folder flushed after that. The content may come in
 * parts. Never follows a link in place of the file: a folder that came from elsewhere may hold one.
 */
export async function writeDurably(file: string, content: string | Iterable<Uint8Array>): Promise<void> {
  const folder = path.dirname(file);
  try {
    const made = await mkdir(folder, { recursive: true });
    const partial = `${file}.partial`;
    await withFile(partial, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, async (handle) => {
      await writeFile(handle, content);
      await handle.sync();
    });
    await rename(partial, file);
    for (const changed of changedFolders(folder, made)) await syncFolder(changed);
  } catch (cause) {
    throw writingError(file, cause);
  }
}

/** Folders with a new entry: the file's own and, if it was created, each one above it up to the first that existed. */
export function changedFolders(folder: string, firstMade: string | undefined): readonly string[] {
  if (firstMade === undefined) return [folder];
  const changed = [path.resolve(folder)];
  const existing = path.dirname(path.resolve(firstMade));
  while (changed[0] !== existing) changed.unshift(path.dirname(changed[0] as string));
  return changed.toReversed();
}

/** Makes the names in a folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  await withFile(folder, "r", (handle) => handle.sync());
}

/** An error that says which file could not be written, why, and what to do. */
export function writingError(file: string, cause: unknown): Error {
  const { code, message } = cause as NodeJS.ErrnoException;
  const remedy = REMEDIES[code ?? ""] ?? "check that it can be written to";
  return new EnvironmentError(`${file} could not be written: ${message}`, `${remedy}, then continue with prelort resume`, { cause });
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: "free space on that disk",
  EDQUOT: "free space within your quota on that disk, or raise it",
  EACCES: "give your user permission to write there",
  EPERM: "give your user permission to write there",
  EFBIG: "raise the limit on the size of files (ulimit -f)",
  EROFS: "make its file system writable: it may have been mounted again after a fault of the disk",
  EISDIR: "remove the folder that is in its place",
  ELOOP: "remove the link that is in its place",
  EIO: "check the disk, which failed to write it",
};

async function withFile(file: string, flags: string | number, use: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await open(file, flags);
  try {
    await use(handle);
  } finally {
    await handle.close();
  }
}
