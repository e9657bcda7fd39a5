import path from "node:path";
import { RunFailedError } from "../errors.ts";
import type { ServerState } from "../strategy/strategy.ts";
import type { EarlyStop } from "./best-round.ts";
import type { Close, Commit, Journal } from "./journal.ts";
import { type FoundMetrics, isOfCommit, type MetricsLine, readMetrics, type RoundMetrics } from "./metrics.ts";
import { EVENTS, findLastEvent } from "./event-log.ts";
import { readIfThere, readJsonLines } from "../base/read-file.ts";
import { decodeState, findDamage, GLOBAL, roundFile, roundFolders, STATE } from "./round-files.ts";
import { isReady, readRecord, RUN_RECORD, type WrittenRecord } from "./run-record.ts";
import { readWholeJournal } from "./whole-journal.ts";

/*
 * The point from which a resumed run continues. Everything is read before anything is written, and records that contradict each
 * other are refused: a run that has ended is never shortened.
 */

export interface ResumePoint {
  /** `run.json`, parsed. */
  readonly record: WrittenRecord;
  /** From round 0, without gaps, to the round from which the run continues. */
  readonly commits: readonly Commit[];
  /** How the round after these closed, if it did. */
  readonly closed: Close | undefined;
  /** Metrics of these rounds, in order, as far as they are on disk. */
  readonly metrics: readonly RoundMetrics[];
  /** Those of these rounds that lack metrics but have an undamaged adapter, so that they can be evaluated again. */
  readonly unmeasured: readonly number[];
  readonly hasEnded: boolean;
  /** Why it ended before its last round, if it did. */
  readonly stopped: EarlyStop | undefined;
  /** Number of the last recorded event; 0 if there is none. */
  readonly lastEvent: number;
  /** What is damaged, and what the run does about it. */
  readonly remarks: readonly string[];
  /** The global adapter's file of a round. */
  readGlobal(round: number): Promise<Uint8Array>;
  readState(round: number): Promise<ServerState>;
}

/** How much of each log is kept when something is written to it. */
export interface FoundLogs {
  readonly journal: number;
  readonly timings: number;
  readonly events: number;
  readonly metrics: FoundMetrics;
  /** Rounds whose files are there, and those that the journal dropped and whose files are there nevertheless. */
  readonly rounds: { readonly present: readonly number[]; readonly dropped: readonly number[] };
}

/** Only reads. Throws a ConfigError or RunFailedError if the run cannot continue. */
export async function findResumePoint(root: string): Promise<{ readonly point: ResumePoint; readonly logs: FoundLogs }> {
  const record = await readRecord(root);
  const { lines, end } = await readMetrics(path.join(root, "metrics.jsonl"));
  const journal = await readWholeJournal(root, lines);
  if (journal.highest >= 0) requireReadyRecord(root, record);
  const timings = await readJsonLines(path.join(root, "timings.jsonl"), () => undefined);
  const events = await findLastEvent(path.join(root, EVENTS));
  const { commits, remarks } = await findWholeRounds(root, journal);
  const found = sortLines(commits, lines);
  const last = commits.at(-1)?.round ?? -1;
  const missing = commits.filter(({ round }) => !found.lines.has(round) && (round < last || journal.hasEnded));
  const damages: (readonly [round: number, damage: string | undefined])[] = [];
  for (const commit of missing) damages.push([commit.round, describeDrop(journal, commit) ?? (await findDamage(root, commit))]);
  const fileOf = async (round: number, name: string) => {
    const bytes = await readIfThere(path.join(root, roundFile(round, name)));
    if (bytes) return bytes;
    throw new RunFailedError(`${path.join(root, roundFile(round, name))} disappeared while it was read`);
  };
  const point: ResumePoint = {
    record,
    commits,
    closed: journal.closes.get(commits.length),
    metrics: found.metrics,
    unmeasured: damages.filter(([, damage]) => damage === undefined).map(([round]) => round),
    hasEnded: journal.hasEnded,
    stopped: journal.stopped,
    lastEvent: events.number,
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
  const metrics = { lines: found.lines, isClean: found.isClean, end };
  const folders = await roundFolders(root);
  const rounds = {
    present: commits.map(({ round }) => round).filter((round) => !journal.dropped.has(round)),
    dropped: folders.filter((round) => journal.dropped.has(round)),
  };
  return { point, logs: { journal: journal.end, timings, events: events.end, metrics, rounds } };
}

/** A record without data and model, next to trained rounds, belongs to another run or dates from before a power cut. */
function requireReadyRecord(root: string, record: WrittenRecord): void {
  if (isReady(record)) return;
  const file = path.join(root, RUN_RECORD);
  throw new RunFailedError(
    `${file} was written before the run's data and model were ready, but its journal commits rounds that were trained on them; ` +
      `restore ${RUN_RECORD} from a copy, or start again with prelort run --overwrite. Nothing was changed`,
  );
}

/**
 * The rounds up to the last one whose files have the committed bytes. Later rounds are trained again; refused if the run had ended,
 * or if no round is left to continue from.
 */
async function findWholeRounds(
  root: string,
  journal: Journal,
): Promise<{ readonly commits: readonly Commit[]; readonly remarks: readonly string[] }> {
  const { commits, hasEnded } = journal;
  const damages: string[] = [];
  for (const commit of commits.toReversed()) {
    if (describeDrop(journal, commit) !== undefined) continue;
    const damage = await findDamage(root, commit);
    if (damage === undefined) {
      const { round } = commit;
      const remedy = `the run continues from round ${round} and trains the later rounds again`;
      return { commits: commits.slice(0, round + 1), remarks: damages.map((found) => `${found}; ${remedy}`) };
    }
    damages.push(damage);
    if (hasEnded) {
      const before = commits.slice(0, commit.round).findLast((other) => describeDrop(journal, other) === undefined);
      const earlier = before ? `, or export an earlier round with prelort export ${root} --round ${before.round}` : "";
      throw new RunFailedError(
        `${root} holds a run that ended after round ${commit.round}, and ${damage}; restore the file from a copy${earlier}. ` +
          "Nothing was changed",
      );
    }
  }
  if (commits.length === 0) return { commits, remarks: [] };
  const problem = `none of the ${commits.length} committed rounds in ${root} can be read: ${damages[0]}`;
  throw new RunFailedError(`${problem}; restore rounds/ from a copy, or start again with prelort run --overwrite. Nothing was changed`);
}

/** Lines by the round they name, whatever their order in the file. */
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
    // The round will be trained again.
    if (!commit) continue;
    if (!isOfCommit(metrics, commit)) damaged.push({ number, problem: `it differs from what was committed for round ${metrics.round}` });
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
  const missing = `metrics.jsonl has no line for round ${round}`;
  return damage === undefined ? `${missing}: its adapter is evaluated again` : `${missing}, and it cannot be computed again: ${damage}`;
}

/** Why a round has no files; undefined if it should have them. */
function describeDrop({ dropped }: Journal, { round }: Commit): string | undefined {
  return dropped.has(round) ? `its files were removed, as keep_rounds asks` : undefined;
}

/** Refuses a run whose journal says that it ended before the round at which it did. */
export function requireAllRounds(root: string, { commits, hasEnded, stopped }: ResumePoint, rounds: number): void {
  const last = commits.at(-1)?.round ?? -1;
  const expected = stopped?.round ?? rounds;
  if (!hasEnded || last === expected) return;
  const problem = `${root} holds a run that ended, but its journal commits round ${last} last, expected ${expected}`;
  throw new RunFailedError(`${problem}; restore journal.jsonl from a copy. Nothing was changed`);
}
