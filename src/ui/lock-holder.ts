import { readdir, readFile, readlink, realpath, stat } from "node:fs/promises";
import path from "node:path";
import process from "node:process";
import { parseJson } from "../base/json.ts";
import { LOCK } from "../records/lock.ts";

/*
 * Whether a process that a lock's text names may be stopped. The text is for people: in a folder from somebody else it may name any
 * process. And a signal reaches a whole process, which may be a program of the user with other runs.
 */

/** Why process `pid` is not to be signalled to stop the run in `directory`; undefined if it is the command that runs it. */
export async function refuseSignal(pid: number, directory: string): Promise<string | undefined> {
  if (process.platform !== "linux") return "only Linux tells which process holds a run: stop it where it was started, with Ctrl-C";
  const isHolder = await holds(pid, path.join(directory, LOCK));
  if (isHolder === undefined) return `what process ${pid} has open cannot be seen: stop it as the user that started it`;
  if (!isHolder)
    return `process ${pid}, which ${LOCK} names, does not hold the run: find out what does (lsof ${path.join(directory, LOCK)})`;
  if (!(await isCommand(pid))) return `process ${pid} is not prelort run or resume: stop it in the program that runs it`;
  return undefined;
}

/** Undefined if that cannot be seen. */
async function holds(pid: number, file: string): Promise<boolean | undefined> {
  const wanted = await stat(file, { bigint: true }).catch(() => undefined);
  const folder = `/proc/${pid}/fd`;
  const open = await readdir(folder).catch((error: NodeJS.ErrnoException) => (error.code === "ENOENT" ? [] : undefined));
  if (!open) return undefined;
  const files = await Promise.all(open.map((name) => stat(path.join(folder, name), { bigint: true }).catch(() => undefined)));
  return wanted !== undefined && files.some((found) => found?.ino === wanted.ino && found.dev === wanted.dev);
}

/** Whether a process is `node …/cli/main.js run` or `resume` of an installed prelort, by whatever link it was started. */
async function isCommand(pid: number): Promise<boolean> {
  try {
    const [text, cwd] = await Promise.all([readFile(`/proc/${pid}/cmdline`, "utf8"), readlink(`/proc/${pid}/cwd`)]);
    const words = text.split("\0");
    const at = words.findIndex((word, index) => index > 0 && !word.startsWith("-"));
    const script = await realpath(path.resolve(cwd, words[at] ?? ""));
    if (!script.endsWith(path.join("/dist", "cli", "main.js")) || !COMMANDS.has(words[at + 1] ?? "")) return false;
    const manifest = parseJson(await readFile(path.resolve(script, "../../../package.json"), "utf8"));
    return (manifest as { readonly name?: unknown } | undefined)?.name === "prelort";
  } catch {
    return false;
  }
}

const COMMANDS: ReadonlySet<string> = new Set(["run", "resume"]);
