import { mkdir, readdir, rm } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import process from "node:process";
import { isDead } from "../base/is-dead.ts";
import { cacheFolder } from "../installation.ts";

let count = 0;

/**
 * Makes a folder for the logs of workers that belong to no run, named for its purpose. Not a temporary one, since errors name these
 * logs; those of processes of this machine that are gone are removed.
 */
export async function makeLogFolder(purpose: string): Promise<string> {
  const logs = path.join(cacheFolder(), "logs");
  await mkdir(logs, { recursive: true });
  const prefix = `${purpose}-${hostname()}-`;
  for (const name of await readdir(logs)) {
    const pid = name.startsWith(prefix) ? Number.parseInt(name.slice(prefix.length), 10) : process.pid;
    if (pid !== process.pid && isDead(pid)) await rm(path.join(logs, name), { recursive: true, force: true });
  }
  const folder = path.join(logs, `${prefix}${process.pid}-${++count}`);
  await mkdir(folder, { recursive: true });
  return folder;
}
