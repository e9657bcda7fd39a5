import { z } from "zod";
import { camelKeys } from "../base/case.ts";
import { check } from "../config/check.ts";
import { RunFailedError } from "../errors.ts";
import { readJsonLines } from "../base/read-file.ts";
import { describeProblems } from "./run-record.ts";

/*
 * What a run's journal says, as far as it is read again: a commit holds all that the next round needs to know, beside the
 * adapter and the server's state, which have files of their own.
 */

const count = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "64 hexadecimal digits");

const trainedMetrics = z.strictObject({
  coverage: z.array(z.strictObject({ r: count, clients: count, examples: count })).readonly(),
  fitLoss: z.number().nullable(),
  reported: z.array(z.string()).readonly(),
  failed: z.array(z.string()).readonly(),
  late: z.array(z.string()).readonly(),
  passes: count,
  bytesDown: count,
  bytesUp: count,
});

const commit = z.strictObject({
  type: z.literal("commit"),
  round: count,
  /** Of `global.safetensors`. */
  sha256,
  /** Of `server-state.safetensors`; null where the aggregation remembers nothing. */
  stateSha256: sha256.nullable(),
  trained: trainedMetrics,
  /** Of the clients that reported: what selection knows of them from now on, and the rank that they go on with. */
  clients: z.array(z.strictObject({ id: z.string(), r: count, rmsLoss: z.number().nullable() })).readonly(),
  /** Clients that are selected no more. */
  setAside: z.array(z.string()).readonly(),
});

const round = z.strictObject({
  type: z.literal("round"),
  round: count,
  clients: z.array(z.strictObject({ id: z.string(), r: count })).readonly(),
});

const names = z.array(z.string()).readonly();
const close = z.strictObject({ type: z.literal("close"), round: count, reported: names, failed: names, late: names, setAside: names });

export type Commit = z.output<typeof commit>;
/** The part of a round's metrics that its training gives. */
export type TrainedMetrics = z.output<typeof trainedMetrics>;

export type Close = z.output<typeof close>;

/** What a run's journal says. */
export interface Journal {
  /** By round, without gaps. A round that was made again stands for itself and all after it. */
  readonly commits: readonly Commit[];
  /** The highest round that was ever committed, even if an earlier one was made again since; -1 for none. */
  readonly highest: number;
  /** Who was asked to train in each round, at which rank, as it was decided last. */
  readonly asked: ReadonlyMap<number, z.output<typeof round>["clients"]>;
  /** Whose updates each round is made of, as it was closed last. */
  readonly closes: ReadonlyMap<number, Close>;
  /** The run came to its end, and was not taken up again. */
  readonly hasEnded: boolean;
  /** Where its last whole line ends. */
  readonly end: number;
}

/** Reads a journal; an absent one is empty. Throws a RunFailedError that names the line that prelort did not write so. */
export async function readJournal(file: string): Promise<Journal> {
  const commits: Commit[] = [];
  const asked = new Map<number, z.output<typeof round>["clients"]>();
  const closes = new Map<number, Close>();
  let [highest, hasEnded] = [-1, false];
  const end = await readJsonLines(file, ({ number, value }) => {
    const line = `${file}:${number}`;
    const type = (value as { readonly type?: unknown } | null | undefined)?.type;
    if (typeof type !== "string") throw damaged(line, "it is not a journal entry");
    if (type === "commit") {
      const entry = parse(commit, value, line);
      if (entry.round > commits.length) throw damaged(line, `it commits round ${entry.round}, and no line commits round ${commits.length}`);
      commits.splice(entry.round, Infinity, entry);
      highest = Math.max(highest, entry.round);
    } else if (type === "round") {
      const { round: number, clients } = parse(round, value, line);
      asked.set(number, clients);
    } else if (type === "close") {
      const entry = parse(close, value, line);
      closes.set(entry.round, entry);
    } else if (type === "end" || type === "resume") {
      hasEnded = type === "end";
    }
  });
  return { commits, highest, asked, closes, hasEnded, end };
}

function parse<S extends z.ZodType>(schema: S, value: unknown, line: string): z.output<S> {
  const { value: entry, problems } = check(schema, camelKeys(value), "snake_case");
  if (problems) throw damaged(line, describeProblems(problems));
  return entry;
}

function damaged(line: string, problem: string): RunFailedError {
  return new RunFailedError(`${line} is damaged: ${problem}; restore the file from a copy. Nothing was changed`);
}
