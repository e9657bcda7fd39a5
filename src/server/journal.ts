import { z } from "zod";
import { camelKeys } from "../config/case.ts";

/*
 * What a run's journal says, as far as it is read again: a commit holds all that the next round needs to know, beside the
 * adapter and the server's state, which have files of their own.
 */

const count = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

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

/** The commits of a journal, by round. A round that was made again stands for itself and all after it. */
export function commitsOf(entries: readonly unknown[]): readonly Commit[] {
  const commits: Commit[] = [];
  for (const entry of entries) {
    const { data } = commit.safeParse(camelKeys(entry));
    if (data && data.round <= commits.length) commits.splice(data.round, Infinity, data);
  }
  return commits;
}

/** Who was asked to train in each round, at which rank, as it was decided last. */
export function askedIn(entries: readonly unknown[]): ReadonlyMap<number, readonly { readonly id: string; readonly r: number }[]> {
  return new Map(
    entries.flatMap((entry) => {
      const { data } = round.safeParse(camelKeys(entry));
      return data ? [[data.round, data.clients]] : [];
    }),
  );
}

/** Of whom the result of a round is made that was closed, but not committed. */
export function closeOf(entries: readonly unknown[], number: number): Close | undefined {
  const found = entries.map((entry) => close.safeParse(camelKeys(entry)).data).findLast((data) => data?.round === number);
  return found;
}

export type Close = z.output<typeof close>;

/** Whether a run came to its end, and was not taken up again. */
export function hasEnded(entries: readonly unknown[]): boolean {
  const types = entries.map((entry) => (entry as { readonly type?: unknown } | null)?.type);
  return types.findLast((type) => type === "end" || type === "resume") === "end";
}
