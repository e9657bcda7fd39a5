import { stripVTControlCharacters } from "node:util";
import { isPublicKey } from "../transport/keys.ts";
import type { JobStatus } from "./jobs-api.ts";
import type { RayOption } from "./ray-error.ts";

/* What the log of a job tells of its driver. */

const KEY_LINE = /prelort-key (\S{40})\r?$/gm;
/** Of the log, in an error. */
const TAIL_LINES = 20;

/** The public keys in it, in order: one, once the driver runs. */
export function keysIn(log: string): readonly string[] {
  return [...log.matchAll(KEY_LINE)].map((line) => line[1] ?? "").filter(isPublicKey);
}

/** What a job that has not come up waits for. */
export function describeWait({ status, message }: JobStatus): string {
  if (status === "PENDING") return `Ray has not started its job yet${message && `: ${message.trim().slice(0, 200)}`}`;
  return "its driver on Ray is starting";
}

/** What a job that has not come up in time should have done. */
export function describeDelay({ status }: JobStatus, milliseconds: number): string {
  const limit = `within ${milliseconds / 60_000} minutes`;
  return status === "PENDING" ? `Ray has not started it ${limit}` : `its driver has not joined ${limit} of its start`;
}

/** How a job has ended, and the key of the config that is probably at fault. */
export function describeJobEnd({ status, message }: JobStatus, log: string): { readonly problem: string; readonly option: RayOption } {
  // Ray quotes the log as well.
  const [reason = ""] = message.split(/,? last available logs/);
  const lines = stripVTControlCharacters(log)
    .replaceAll(/^prelort-key .*\n?/gm, "")
    .trimEnd()
    .split("\n")
    .slice(-TAIL_LINES);
  const tail = lines.join("") === "" ? "" : `; the end of its log:\n${lines.map((line) => `  ${line}`).join("\n")}`;
  const option = log.includes("could not reach the controller")
    ? "workers.advertise"
    : /runtime_?env(ironment)? ?(setup|could|failed|install)/i.test(reason)
      ? "workers.cluster.runtime_env"
      : "workers.cluster";
  return { problem: `it ended as ${status}${reason && `: ${reason.trim()}`}${tail}`, option };
}
