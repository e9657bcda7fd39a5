import type { RunConfig } from "../config/schema.ts";
import { PrelortError, RunFailedError } from "../errors.ts";

/** Which clients' updates count in a round; each list in index order. */
export interface RoundClose {
  readonly reported: readonly string[];
  /** They used up their attempts. */
  readonly failed: readonly string[];
  /** The round closed without waiting for them. */
  readonly late: readonly string[];
}

/** When a round closes. */
export interface ClosingRule {
  /** Clients that must report. */
  readonly quorum: number;
  /** Once this many have reported, the round does not wait for the others. */
  readonly enough: number;
  /** Time from the start of the round after which a quorum is enough. */
  readonly deadlineMs: number | undefined;
}

/** The rule for `asked` clients. Without `closing`, the round waits for all of them, and one report is a quorum. */
export function closingRule({ quorum = 0, enough = 1, deadline }: Partial<RunConfig["closing"]>, asked: number): ClosingRule {
  return {
    quorum: Math.min(asked, Math.max(1, Math.ceil(quorum * asked))),
    enough: Math.ceil(enough * asked),
    deadlineMs: deadline === undefined ? undefined : deadline * 1000,
  };
}

/** Whether a round closes before every client that was asked has reported. `isDue`: its deadline has passed. */
export function closesEarly(
  { quorum, enough }: ClosingRule,
  { asked, reported, isDue }: { readonly asked: number; readonly reported: number; readonly isDue: boolean },
): boolean {
  return reported < asked && reported >= (isDue ? quorum : enough);
}

/** The error of a round without a quorum; if any report would have been enough, its first client's error. */
export function quorumError(
  round: number,
  { quorum }: ClosingRule,
  { asked, reported }: { readonly asked: number; readonly reported: number },
  failures: ReadonlyMap<string, Error>,
): Error {
  const [[client, first] = []] = failures;
  if (quorum === 1 && first) return first;
  const problem = `round ${round}: ${reported} of ${asked} clients reported, but closing.quorum requires ${quorum}`;
  return new RunFailedError(`${problem}; client ${client} failed with:\n${first?.message}`, { cause: first });
}

/** A client that used up its attempts is a result; an interruption, or a pool without workers, ends the run. */
export function isClientFailure(error: unknown): boolean {
  return error instanceof PrelortError && (error.kind === "worker" || error.kind === "refused");
}
