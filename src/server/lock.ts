import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import path from "node:path";
import process from "node:process";
import { z } from "zod";
import { parseJson } from "../tensor/json.ts";

/*
 * One controller holds a run directory at a time. Its lock says which process that is, and when it started, since a number
 * is given to another process in time; a lock whose process is gone was left by a kill, and is taken over.
 */

const holderSchema = z.strictObject({ pid: z.number().int().positive(), host: z.string(), started: z.string().nullable() });
export type Holder = z.infer<typeof holderSchema>;

/** Takes the lock of a folder; gives who holds it instead, or undefined once it is ours. Of several that try one succeeds. */
export function takeLock(folder: string): Holder | undefined {
  const lock = path.join(folder, "lock");
  const own = path.join(folder, `lock.${process.pid}`);
  writeFileSync(own, `${JSON.stringify({ pid: process.pid, host: hostname(), started: startOf(process.pid) })}\n`);
  try {
    while (!linked(own, lock)) {
      const found = read(lock);
      const holder = holderSchema.safeParse(parseJson(found)).data;
      if (holder && isAlive(holder)) return holder;
      // Somebody else may have taken it over since we read it: that one gets it back.
      const aside = path.join(folder, `lock.stale.${process.pid}`);
      if (moved(lock, aside) && read(aside) !== found) linked(aside, lock);
      rmSync(aside, { force: true });
    }
    return undefined;
  } finally {
    rmSync(own, { force: true });
  }
}

/** Who holds the lock of a folder now; undefined where nobody does that is alive. */
export function lockHolder(folder: string): Holder | undefined {
  const holder = holderSchema.safeParse(parseJson(read(path.join(folder, "lock")))).data;
  return holder && isAlive(holder) ? holder : undefined;
}

/** What a lock leaves in a folder, whenever its process is killed. */
export function isLockFile(name: string): boolean {
  return name === "lock" || name.startsWith("lock.");
}

export function releaseLock(folder: string): void {
  rmSync(path.join(folder, "lock"), { force: true });
}

/** One on another machine, or in another container, cannot be asked, and counts as alive. */
function isAlive({ pid, host, started }: Holder): boolean {
  if (host !== hostname()) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  return startOf(pid) === started;
}

/** When a process started, in the kernel's own words; null where it does not tell, and of one that only waits to be buried. */
function startOf(pid: number): string | null {
  const stat = read(`/proc/${pid}/stat`);
  // What stands in brackets is the command, which may hold anything; the third field follows, and the start is the 22nd.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (stat === "" || state === "Z" || state === "X") return null;
  return `${read("/proc/sys/kernel/random/boot_id").trim()} ${fields[18]}`;
}

function linked(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function moved(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
