import type { RunConfig } from "../config/schema.ts";
import { RunFailedError } from "../errors.ts";

/** Of whom a round's result is made; each list in index order. */
export interface RoundClose {
  readonly reported: readonly string[];
  /** They used up their tries. */
  readonly failed: readonly string[];
  /** They were not waited for. */
  readonly late: readonly string[];
}

/** When a round closes. */
export interface ClosingRule {
  /** So many clients must report. */
  readonly quorum: number;
  /** Once so many have reported, nobody else is waited for. */
  readonly enough: number;
  /** Once this has passed since the round began, a quorum is enough. */
  readonly deadlineMs: number | undefined;
}

/** For so many clients. Without `closing` all are waited for, and one that reports is a quorum. */
export function closingRule({ quorum = 0, enough = 1, deadline }: Partial<RunConfig["closing"]>, asked: number): ClosingRule {
  return {
    quorum: Math.min(asked, Math.max(1, Math.ceil(quorum * asked))),
    enough: Math.ceil(enough * asked),
    deadlineMs: deadline === undefined ? undefined : deadline * 1000,
  };
}

/** Whether a round closes although not everyone who was asked has reported. `isDue`: its deadline has passed. */
export function closesEarly(
  { quorum, enough }: ClosingRule,
  { asked, reported, isDue }: { readonly asked: number; readonly reported: number; readonly isDue: boolean },
): boolean {
  return reported < asked && reported >= (isDue ? quorum : enough);
}

/** Why a round without a quorum fails: for want of any report, its first client's error. */
export function quorumError(
  round: number,
  { quorum }: ClosingRule,
  { asked, reported }: { readonly asked: number; readonly reported: number },
  failures: ReadonlyMap<string, Error>,
): Error {
  const [[client, first] = []] = failures;
  if (quorum === 1 && first) return first;
  const problem = `round ${round}: ${reported} of ${asked} clients reported, and closing.quorum asks for ${quorum}`;
  return new RunFailedError(`${problem}; client ${client} failed with:\n${first?.message}`, { cause: first });
}
