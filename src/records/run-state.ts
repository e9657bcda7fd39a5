import { closeSync, constants, existsSync, openSync } from "node:fs";
import path from "node:path";
import { readJsonLines } from "../base/read-file.ts";
import { LOCK } from "./lock.ts";

export type RunState = "running" | "ended" | "failed" | "interrupted" | "killed";

/** What became of a run, from its folder. */
export async function readRunState(directory: string): Promise<{ readonly state: RunState }> {
  const lock = path.join(directory, LOCK);
  if (existsSync(lock)) {
    const { tryLock } = await import("fs-native-extensions");
    const fd = openSync(lock, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (!tryLock(fd)) return { state: "running" };
    } finally {
      closeSync(fd);
    }
  }
  let [hasEnded, last] = [false, ""];
  await readJsonLines(path.join(directory, "journal.jsonl"), ({ value }) => {
    hasEnded = (value as { type?: string } | undefined)?.type === "end";
  });
  if (hasEnded) return { state: "ended" };
  await readJsonLines(path.join(directory, "events.jsonl"), ({ value }) => {
    const event = value as { type?: string; kind?: string } | undefined;
    last = event?.type === "run-failed" ? (event.kind === "interrupted" ? "interrupted" : "failed") : "";
  });
  return { state: last === "" ? "killed" : (last as RunState) };
}
