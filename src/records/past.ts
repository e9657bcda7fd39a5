import path from "node:path";
import { RunFailedError } from "../errors.ts";
import type { ServerState } from "../strategy/strategy.ts";
import type { RoundMetrics } from "./metrics.ts";
import { type Close, type Commit, type Journal } from "./journal.ts";
import { isOfCommit, type LeftMetrics, type MetricsLine, readMetrics } from "./metrics.ts";
import { readIfThere, readJsonLines } from "../base/read-file.ts";
import { decodeState, findDamage, GLOBAL, roundFile, STATE } from "./round-files.ts";
import { readRecord } from "./run-record.ts";
import { readWholeJournal } from "./whole-journal.ts";

/*
 * What an earlier life of a run left, and what the run continues from. All of it is read before anything is written, and whatever
 * contradicts itself is refused: a run that had ended is never shortened.
 */

export interface Past {
  /** What `run.json` says, as it was parsed. */
  readonly record: Readonly<Record<string, unknown>>;
  /** From round 0, without gaps, to the one that the run continues from. */
  readonly commits: readonly Commit[];
  /** How the round after these was closed, if it was. */
  readonly closed: Close | undefined;
  /** Figures of these rounds, in order, as far as they are on disk. */
  readonly metrics: readonly RoundMetrics[];
  /** Of these rounds, those whose figures are missing and can be made again, since their adapters are whole. */
  readonly unmeasured: readonly number[];
  readonly hasEnded: boolean;
  /** What was found damaged, and what becomes of it. */
  readonly remarks: readonly string[];
  /** The global adapter's file of a round. */
  readGlobal(round: number): Promise<Uint8Array>;
  readState(round: number): Promise<ServerState>;
}

/** How far each log is kept once something is written to it. */
export interface LeftLogs {
  readonly journal: number;
  readonly timings: number;
  readonly metrics: LeftMetrics;
}

/** Only reads. Throws a ConfigError or RunFailedError if the run cannot continue from what is there. */
export async function readPast(root: string): Promise<{ readonly past: Past; readonly logs: LeftLogs }> {
  const record = await readRecord(root);
  const { lines, end } = await readMetrics(path.join(root, "metrics.jsonl"));
  const journal = await readWholeJournal(root, lines);
  const timings = await readJsonLines(path.join(root, "timings.jsonl"), () => undefined);
  const { commits, remarks } = await findWholeRounds(root, journal);
  const found = sortLines(commits, lines);
  const last = commits.at(-1)?.round ?? -1;
  const missing = commits.filter(({ round }) => !found.lines.has(round) && (round < last || journal.hasEnded));
  const damages: (readonly [round: number, damage: string | undefined])[] = [];
  for (const commit of missing) damages.push([commit.round, await findDamage(root, commit)]);
  const fileOf = async (round: number, name: string) => {
    const bytes = await readIfThere(path.join(root, roundFile(round, name)));
    if (bytes) return bytes;
    throw new RunFailedError(`${path.join(root, roundFile(round, name))} disappeared while it was read`);
  };
  const past: Past = {
    record,
    commits,
    closed: journal.closes.get(commits.length),
    metrics: found.metrics,
    unmeasured: damages.filter(([, damage]) => damage === undefined).map(([round]) => round),
    hasEnded: journal.hasEnded,
    remarks: [
      ...remarks,
      ...found.damaged.map(({ number, problem }) => `metrics.jsonl:${number} is damaged: ${problem}`),
      ...damages.map(([round, damage]) => describeGap(round, damage)),
    ],
    readGlobal: (round) => fileOf(round, GLOBAL),
    async readState(round) {
      if (!commits[round]?.stateSha256) return {};
      return decodeState(await fileOf(round, STATE), `round ${round}'s ${STATE}`);
    },
  };
  return { past, logs: { journal: journal.end, timings, metrics: { lines: found.lines, isClean: found.isClean, end } } };
}

/**
 * The rounds up to the last whose files have the bytes that were committed. Those after it are trained again, unless the run had
 * ended, or none is left to continue from.
 */
async function findWholeRounds(
  root: string,
  { commits, hasEnded }: Journal,
): Promise<{ readonly commits: readonly Commit[]; readonly remarks: readonly string[] }> {
  const damages: string[] = [];
  for (const commit of commits.toReversed()) {
    const damage = await findDamage(root, commit);
    if (damage === undefined) {
      const { round } = commit;
      const remedy = `the run continues from round ${round}, and trains what came after it again`;
      return { commits: commits.slice(0, round + 1), remarks: damages.map((found) => `${found}; ${remedy}`) };
    }
    damages.push(damage);
    if (hasEnded) {
      const earlier = commit.round > 0 ? `, or take an earlier round with prelort export ${root} --round ${commit.round - 1}` : "";
      throw new RunFailedError(
        `${root} holds a run that had ended after round ${commit.round}, and ${damage}; restore the file from a copy${earlier}. ` +
          "Nothing was changed",
      );
    }
  }
  if (commits.length === 0) return { commits, remarks: [] };
  const problem = `none of the ${commits.length} committed rounds in ${root} can be read: ${damages[0]}`;
  throw new RunFailedError(`${problem}; restore rounds/ from a copy, or start anew with prelort run --overwrite. Nothing was changed`);
}

/** Lines by the round that they are of, not by their place. */
function sortLines(commits: readonly Commit[], lines: readonly MetricsLine[]) {
  const kept = new Map<number, MetricsLine & { readonly metrics: RoundMetrics }>();
  const damaged: { readonly number: number; readonly problem: string }[] = [];
  for (const line of lines) {
    const { number, metrics, problem } = line;
    if (!metrics) {
      damaged.push({ number, problem });
      continue;
    }
    const commit = commits[metrics.round];
    // Of a round that is trained again.
    if (!commit) continue;
    if (!isOfCommit(metrics, commit)) damaged.push({ number, problem: `it is not what was committed for round ${metrics.round}` });
    else if (!kept.has(metrics.round)) kept.set(metrics.round, { ...line, metrics });
  }
  const inOrder = [...kept.values()].toSorted((a, b) => a.metrics.round - b.metrics.round);
  const isClean = inOrder.length === lines.length && inOrder.every((line, index) => line.number === lines[index]?.number);
  return {
    lines: new Map(inOrder.map(({ metrics, text }) => [metrics.round, text])),
    metrics: inOrder.map(({ metrics }) => metrics),
    damaged,
    isClean,
  };
}

function describeGap(round: number, damage: string | undefined): string {
  const missing = `metrics.jsonl has no figures of round ${round}`;
  return damage === undefined ? `${missing}: its adapter is evaluated again` : `${missing}, and they cannot be made again: ${damage}`;
}

/** Refuses a run whose journal says that it ended before its last round. */
export function requireAllRounds(root: string, { commits, hasEnded }: Past, rounds: number): void {
  const last = commits.at(-1)?.round ?? -1;
  if (!hasEnded || last === rounds) return;
  const problem = `${root} holds a run that had ended, but its journal commits round ${last} last, not ${rounds}`;
  throw new RunFailedError(`${problem}; restore journal.jsonl from a copy. Nothing was changed`);
}
