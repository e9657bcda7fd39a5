import { z } from "zod";
import { camelKeys, snakeKeys } from "../base/case.ts";
import { check } from "../config/check.ts";
import { RunFailedError } from "../errors.ts";
import { readJsonLines } from "../base/read-file.ts";
import { type LineLog, openLineLog } from "./line-log.ts";
import { bestRound, type EarlyStop, earlyStop } from "./best-round.ts";
import { trainedShape } from "./metrics.ts";
import { count, describeProblems, list, names, sha256 } from "./schema.ts";

/*
 * `journal.jsonl`: what a run decided and received, in order, one entry a line, with snake_case keys. A commit holds everything
 * that the next round needs except the adapter and the server's state, which have their own files.
 */

const client = z.strictObject({ id: z.string(), r: count }).readonly();

const commit = z.strictObject({
  type: z.literal("commit"),
  round: count,
  /** Of `global.safetensors`. */
  sha256,
  /** Of `server-state.safetensors`; null if the aggregation keeps no state. */
  stateSha256: sha256.nullable(),
  trained: z.strictObject(trainedShape).readonly(),
  /** Clients that are quarantined from this round on: never selected again. */
  setAside: names,
  /** The clients that reported: what selection knows about them from now on, and their rank for the next round. */
  clients: list(z.strictObject({ id: z.string(), r: count, rmsLoss: z.number().nullable() }).readonly()),
});

/** Which clients were asked to train, and at which ranks. */
const round = z.strictObject({ type: z.literal("round"), round: count, clients: list(client) });

/** Which clients' updates count in a round. */
const close = z.strictObject({ type: z.literal("close"), round: count, reported: names, failed: names, late: names, setAside: names });

/** A client's update was added to the round. */
const fit = z.strictObject({
  type: z.literal("fit"),
  round: count,
  clientId: z.string(),
  workerId: z.string(),
  attempt: count,
  /** It was trained before the run was resumed, and read from `updates/`. */
  isRestored: z.boolean(),
});

/** A client's update arrived after its round had closed, and was refused. */
const late = z.strictObject({ type: z.literal("late"), round: count, clientId: z.string(), workerId: z.string() });

/** An attempt at a task failed. */
const failure = z.strictObject({
  type: z.literal("failure"),
  taskId: z.string(),
  attempt: count,
  workerId: z.string(),
  error: z.string(),
  willRetry: z.boolean(),
});

/** A worker said hello. */
const worker = z.strictObject({ type: z.literal("worker"), workerId: z.string(), host: z.string(), pid: count, device: z.string() });

const resume = z.strictObject({
  type: z.literal("resume"),
  /** The last committed round; −1 for none. */
  after: z.number().int().min(-1),
  /** Differences in versions and devices, with which the same bytes cannot be promised. */
  differences: list(z.strictObject({ path: z.string(), was: z.unknown().optional(), is: z.unknown().optional() })),
});

/** The run ended; with `evaluate.best`, at which best round, and with `stop_when`, why before its last round. */
const end = z.strictObject({ type: z.literal("end"), best: bestRound.optional(), stopped: earlyStop.optional() });

/** The files of these rounds are removed, since `keep_rounds` keeps others. Written before they are. */
const drop = z.strictObject({ type: z.literal("drop"), rounds: list(count) });

/** Entries that a resume or a verification depends on. */
const decisiveEntry = z.discriminatedUnion("type", [commit, round, close, resume, end, drop]);

export type JournalEntry = z.output<typeof decisiveEntry | typeof fit | typeof late | typeof failure | typeof worker>;
export type Commit = z.output<typeof commit>;
export type Close = z.output<typeof close>;

/** Opens a journal to append to, after its first `keep` bytes. */
export function openJournal(file: string, keep?: number): LineLog<JournalEntry> {
  return openLineLog(file, { keep, encode: (entry) => (entry.type === "resume" ? entry : snakeKeys(entry)) });
}

/** The content of a run's journal. */
export interface Journal {
  /** By round, without gaps. A round that was trained again replaces its earlier commit and all later ones. */
  readonly commits: readonly Commit[];
  /** The highest round that was ever committed, even if an earlier one was trained again since; -1 for none. */
  readonly highest: number;
  /** Which clients were asked to train in each round, at which rank, as decided last. */
  readonly asked: ReadonlyMap<number, z.output<typeof round>["clients"]>;
  /** Which clients' updates count in each round, as last closed. */
  readonly closes: ReadonlyMap<number, Close>;
  /** Rounds whose files were removed, or were about to be. */
  readonly dropped: ReadonlySet<number>;
  /** The run ended, and was not resumed since. */
  readonly hasEnded: boolean;
  /** Why it ended before its last round, if it did. */
  readonly stopped: EarlyStop | undefined;
  /** Where its last complete line ends. */
  readonly end: number;
}

/** Reads a journal; an absent one is empty. Throws a RunFailedError that names the first damaged line. */
export async function readJournal(file: string): Promise<Journal> {
  const commits: Commit[] = [];
  const asked = new Map<number, z.output<typeof round>["clients"]>();
  const closes = new Map<number, Close>();
  const dropped = new Set<number>();
  let [highest, hasEnded] = [-1, false];
  let stopped: EarlyStop | undefined;
  const endsAt = await readJsonLines(file, ({ number, value }) => {
    const line = `${file}:${number}`;
    const entry = parseEntry(value, line);
    if (!entry) return;
    switch (entry.type) {
      case "commit":
        if (entry.round > commits.length)
          throw damaged(line, `it commits round ${entry.round}, and no line commits round ${commits.length}`);
        commits.splice(entry.round, Infinity, entry);
        highest = Math.max(highest, entry.round);
        for (const round of dropped) if (round >= entry.round) dropped.delete(round);
        break;
      case "drop":
        for (const round of entry.rounds) dropped.add(round);
        break;
      case "round":
        asked.set(entry.round, entry.clients);
        break;
      case "close":
        closes.set(entry.round, entry);
        break;
      case "end":
      case "resume":
        hasEnded = entry.type === "end";
        stopped = entry.type === "end" ? entry.stopped : undefined;
        break;
    }
  });
  return { commits, highest, asked, closes, dropped, hasEnded, stopped, end: endsAt };
}

/**
 * Undefined for an entry that no resume depends on: one recorded for people, or of a type that only a later version knows. Such
 * a line may hold anything without making the run unreadable.
 */
function parseEntry(value: unknown, line: string): z.output<typeof decisiveEntry> | undefined {
  const type = (value as { readonly type?: unknown } | null | undefined)?.type;
  if (typeof type !== "string") throw damaged(line, "it is not a journal entry");
  if (!DECISIVE.has(type)) return undefined;
  const { value: entry, problems } = check(decisiveEntry, type === "resume" ? value : camelKeys(value), "snake_case");
  if (problems) throw damaged(line, describeProblems(problems));
  return entry;
}

const DECISIVE: ReadonlySet<string> = new Set(decisiveEntry.options.map(({ shape }) => shape.type.value));

function damaged(line: string, problem: string): RunFailedError {
  return new RunFailedError(`${line} is damaged: ${problem}; restore the file from a copy. Nothing was changed`);
}
