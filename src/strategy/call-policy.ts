import { PrelortError, RunFailedError } from "../errors.ts";
import type { PolicyDescription } from "./strategy.ts";

/*
 * Policies may be the user's own code. If one throws, the run ends with an error that names the policy, so that it is not
 * mistaken for the fault of a worker, a client or prelort. prelort's own errors pass unchanged: a policy may refuse an
 * update, and a run may be interrupted while a policy waits for losses.
 */

/** Calls a policy, which may return a promise. `subject` names the policy and what it was asked for. */
export function callPolicy<T>(subject: string, call: () => T): T {
  try {
    const result = call();
    if (!isPromise(result)) return result;
    const guarded = Promise.resolve(result).catch((cause: unknown) => {
      throw policyError(subject, cause);
    });
    return guarded as T;
  } catch (cause) {
    throw policyError(subject, cause);
  }
}

/** `the selection largestFirst`: by the name it was made with, else that of its function or class. */
export function namePolicy(kind: "selection" | "rank assignment" | "aggregation", policy: object & PolicyDescription): string {
  const own = typeof policy === "function" ? (policy as { readonly name: string }).name : policy.constructor?.name;
  const name = policy.policy?.name ?? (GENERIC.has(own ?? "") ? undefined : own);
  return name === undefined ? `the ${kind}` : `the ${kind} ${name}`;
}

/** Describes what a policy returned instead of a valid value. */
export function describeGiven(value: unknown): string {
  if (isPromise(value)) return "a promise";
  if (typeof value === "function") return "a function";
  const text = value === undefined || PLAIN.has(typeof value) ? String(value) : toJson(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

function toJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? "an object without a value";
  } catch {
    return "an object that cannot be shown";
  }
}

const PLAIN = new Set(["number", "bigint", "symbol"]);

/** Names of anonymous policies, which JavaScript takes from the key they are assigned to. */
const GENERIC = new Set(["", "Object", "selection", "rankAssignment", "aggregation"]);

function policyError(subject: string, cause: unknown): PrelortError {
  if (cause instanceof PrelortError) return cause;
  const thrown = cause instanceof Error ? `${cause.name}: ${cause.message}` : describeGiven(cause);
  const place = placeOf(cause);
  return new RunFailedError(`${subject} threw ${thrown}${place === undefined ? "" : ` (${place})`}`, { cause });
}

/** prelort's own code. */
const OURS = new URL("../", import.meta.url).pathname;

/** Where the policy's own code threw, or called what threw: `mine.mjs:7:12`. */
function placeOf(cause: unknown): string | undefined {
  const frames = cause instanceof Error ? (cause.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line)) : [];
  const frame = frames.find((line) => !line.includes(OURS) && !/node:|\/node_modules\/|<anonymous>|\bnative\b/.test(line));
  return frame && /([^/\\()\s]+:\d+:\d+)\)?$/.exec(frame)?.[1];
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { readonly then?: unknown } | null | undefined)?.then === "function";
}
