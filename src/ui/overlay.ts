import path from "node:path";
import { z } from "zod";
import { parseJson } from "../base/json.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import { pickEvenly } from "../report/pick-evenly.ts";
import { qualityAt, qualityOf } from "../report/quality.ts";
import type { OverlayRun } from "./messages.ts";
import { LARGEST_LINE, readBytes, readPieces, withRegularFile } from "./tail.ts";

/**
 * A run's quality over at most `count` of its evaluated rounds, evenly spread, with the first and the last. Only their lines are
 * parsed, so that many long runs can be laid over one another.
 */
export async function readOverlay(directory: string, name: string, count: number): Promise<OverlayRun> {
  const empty: OverlayRun = { name, measure: "loss", tiers: [], rounds: [], values: [], problem: "it has no evaluated rounds" };
  const parsed = await withRegularFile(path.join(directory, "metrics.jsonl"), async (handle, size) => {
    // A file of usual size is read once; of a larger one, the picked lines are read again.
    const whole = size <= USUAL_SIZE ? await readBytes(handle, 0, size) : undefined;
    const lines = pickEvenly(await evaluatedLines(whole ? [whole] : readPieces(handle, 0, size)), count);
    const read = [];
    for (const [start, end] of lines) {
      const line = whole ? whole.subarray(start, end) : await readBytes(handle, start, end);
      read.push(parseQuality(line.toString("utf8")));
    }
    return read;
  });
  if (!parsed) return empty;
  const byRound = new Map(parsed.flatMap((metrics) => (metrics ? [[metrics.round, metrics] as const] : [])));
  const rounds = [...byRound.values()].toSorted((a, b) => a.round - b.round);
  const last = rounds.at(-1);
  if (!last) return empty;
  const quality = qualityOf(rounds);
  const tiers = last.byTier.map(({ r }) => r);
  const damaged = parsed.filter((metrics) => metrics === undefined).length;
  return {
    name,
    measure: quality.name,
    tiers,
    rounds: rounds.map(({ round }) => round),
    values: tiers.map((r) => rounds.map((metrics) => qualityAt(quality, metrics, r))),
    problem: damaged > 0 ? `${damaged} of its lines are damaged` : null,
  };
}

const USUAL_SIZE = 2 ** 23;

const metric = z.number().nullable();
const qualityPart = z.object({
  round: z.number(),
  by_tier: z.array(
    z.object({
      r: z.number(),
      loss: metric,
      perplexity: metric,
      accuracy: metric,
      own: z.array(z.object({ name: z.string(), value: metric })).default([]),
    }),
  ),
});

/** What follows the quality in a line; within a string its quotes would be escaped. */
const REST = ',"merged":';

/** Parses only as much of a line as has the quality. */
function parseQuality(line: string): RoundMetrics | undefined {
  const end = line.indexOf(REST);
  const { data } = qualityPart.safeParse(parseJson(end < 0 ? line : `${line.slice(0, end)}}`));
  // The other figures are not looked at.
  return data && ({ round: data.round, byTier: data.by_tier } as unknown as RoundMetrics);
}

const NOT_EVALUATED = Buffer.from('"by_tier":[]');
/** Longest start of a line in which that stands. */
const HEAD_BYTES = 40;

/** Where the complete lines with an evaluation start and end; lines that are too long are left out. */
async function evaluatedLines(
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
): Promise<readonly (readonly [start: number, end: number])[]> {
  const lines: [number, number][] = [];
  let [at, start, head] = [0, 0, NOTHING];
  for await (const piece of pieces) {
    let next = 0;
    for (let newline = piece.indexOf(NEWLINE); newline >= 0; newline = piece.indexOf(NEWLINE, next)) {
      const first = piece.subarray(next, Math.min(newline, next + HEAD_BYTES));
      const whole = head.length === 0 ? first : Buffer.concat([head, first]).subarray(0, HEAD_BYTES);
      const end = at + newline;
      if (end - start <= LARGEST_LINE && !whole.includes(NOT_EVALUATED)) lines.push([start, end]);
      [head, start, next] = [NOTHING, end + 1, newline + 1];
    }
    if (head.length < HEAD_BYTES) head = Buffer.concat([head, piece.subarray(next, next + HEAD_BYTES)]);
    at += piece.length;
  }
  return lines;
}

const NEWLINE = 0x0a;
const NOTHING = Buffer.alloc(0);
