import path from "node:path";
import { readLastJsonLine } from "../base/read-file.ts";
import { EVENTS } from "./event-log.ts";
import { type Holder, isHeld } from "./lock.ts";

/** `killed`: its process ended without a word, by `kill -9` or a power cut. All but `running` and `ended` can be resumed. */
export type RunState = "running" | "ended" | "failed" | "interrupted" | "killed";

export interface FoundState {
  readonly state: RunState;
  /** Who runs it. */
  readonly holder?: Holder | undefined;
  /** Why it failed. */
  readonly error?: string | undefined;
}

/** What became of a run, from its folder. Reads only the end of its logs. */
export async function readRunState(directory: string): Promise<FoundState> {
  const holder = await isHeld(directory);
  if (holder !== false) return { state: "running", ...(holder !== true && { holder }) };
  const [event, decided] = await Promise.all([EVENTS, "journal.jsonl"].map((name) => readLastObject(path.join(directory, name))));
  if (decided?.["type"] === "end") return { state: "ended" };
  if (event?.["type"] === "run-failed") {
    if (event["kind"] === "interrupted") return { state: "interrupted" };
    const error = event["error"];
    // The log may be damaged: what is no text cannot be shown.
    return { state: "failed", error: typeof error === "string" ? error : undefined };
  }
  // Earlier versions recorded no events.
  return { state: event ? "killed" : "interrupted" };
}

async function readLastObject(file: string): Promise<Readonly<Record<string, unknown>> | undefined> {
  const value = await readLastJsonLine(file);
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
}
