import { setImmediate } from "node:timers/promises";
import { type Adapter, prefix } from "../../../adapter/adapter.ts";
import { segments } from "../../../adapter/segments.ts";
import { encodingOf } from "../../../adapter/encoded-adapter.ts";
import { requireWithinBounds } from "../../../adapter/update.ts";
import { decodePart } from "../../../tensor/encoded.ts";
import { inTurns, type Work } from "../../../base/turns.ts";
import type { Accumulator, Aggregation, RankedClient, RoundContext, SpooledUpdate, Update } from "../../strategy.ts";
import { rollCall } from "../participation.ts";
import { type ContributorOptions, requireContributors } from "../segment-means.ts";
import { weighBy, type Weights } from "../weights.ts";
import type { RobustRule } from "./rule.ts";

export interface RobustSegmentsOptions extends ContributorOptions {
  readonly weights: Weights;
}

/**
 * Aggregations that need all updates of a segment at once: the rule's step for a segment comes from the clients that train
 * it, and for `modules_to_save` from all clients that reported. A segment trained by fewer than `rule.atLeast` keeps its
 * value to the byte: the rule could not tell the malicious from the others. Updates are read back in blocks, in the order
 * of the round's clients: memory is about 4 MiB, or 1,024 values a client, whatever their size. Updates that are not on
 * disk are kept in memory.
 */
export function robustSegments(rule: RobustRule, options: RobustSegmentsOptions): Pick<Aggregation, "begin" | "distribute" | "readsSpool"> {
  requireContributors(options);
  return { distribute: prefix, readsSpool: true, begin: (context) => readBack(context, rule, options) };
}

/** Values of all clients together that are read at a time. */
const VALUES_AT_ONCE = 2 ** 20;
const LEAST_BLOCK = 1024;

function readBack(context: RoundContext, rule: RobustRule, { weights, minContributors = 1 }: RobustSegmentsOptions): Accumulator {
  const { layout, global } = context;
  const weightOf = weighBy(weights);
  const roll = rollCall(context);
  const updates = new Map<string, SpooledUpdate>();
  function* keep({ clientId, delta, spooled }: Update): Work<void> {
    yield* requireWithinBounds(clientId, delta);
    updates.set(clientId, spooled ?? inMemory(delta));
  }
  const sourceOf = (tensor: Tensor, clients: readonly RankedClient[]): readonly Source[] =>
    clients.map((client) => ({
      weight: weightOf([client]),
      read: (from, to) => (updates.get(client.id) as SpooledUpdate).read(tensor, from, to),
    }));
  return {
    folds: true,
    add: (update) => inTurns(roll.admit(update, keep(update))),
    async finish() {
      const next = { ...global, rows: global.rows.slice(), dense: global.dense.slice() };
      const held = roll.tooFew(Math.max(minContributors, rule.atLeast));
      for (const { from, to } of segments(layout.tiers)) {
        const span = { from: from * layout.width, to: to * layout.width };
        if (!held.includes(to)) await move(next.rows, span, rule, sourceOf("rows", roll.reportedFrom(to)));
      }
      const all = { from: 0, to: layout.denseSize };
      if (!held.includes("dense")) await move(next.dense, all, rule, sourceOf("dense", roll.reportedFrom(0)));
      return { global: next, coverage: roll.coverage(), held };
    },
  };
}

type Tensor = Parameters<SpooledUpdate["read"]>[0];

/** A client's values of a tensor, and w_k. */
interface Source {
  readonly weight: number;
  read(from: number, to: number): Promise<Float32Array>;
}

/** Values [from, to). */
interface Span {
  readonly from: number;
  readonly to: number;
}

/** Adds the rule's step to every value of the span. */
async function move(target: Float32Array, span: Span, rule: RobustRule, sources: readonly Source[]): Promise<void> {
  if (sources.length === 0) return;
  const chosen = await rule.choose?.(blocksOf(sources, span), sources.length);
  const counted = chosen ? chosen.map((client) => sources[client] as Source) : sources;
  const weights = counted.map(({ weight }) => weight);
  const values = new Float32Array(counted.length);
  let at = span.from;
  for await (const block of blocksOf(counted, span)) {
    for (let index = 0; index < (block[0] as Float32Array).length; index++, at++) {
      for (let client = 0; client < values.length; client++) values[client] = (block[client] as Float32Array)[index] as number;
      const step = rule.step(values, weights);
      // -0 + 0 would be +0.
      if (step !== 0) target[at] = (target[at] as number) + step;
    }
  }
}

async function* blocksOf(sources: readonly Source[], span: Span): AsyncGenerator<readonly Float32Array[]> {
  const length = Math.max(LEAST_BLOCK, Math.floor(VALUES_AT_ONCE / sources.length));
  for (let { from } = span; from < span.to; from += length) {
    // Lets other work of the event loop run.
    await setImmediate();
    const to = Math.min(from + length, span.to);
    yield await Promise.all(sources.map((source) => source.read(from, to)));
  }
}

/** A copy in its wire encoding: the original memory may be reused. */
function inMemory(delta: Adapter): SpooledUpdate {
  const { rows, dense } = encodingOf(delta);
  const kept = { rows: { ...rows, bytes: rows.bytes.slice() }, dense: { ...dense, bytes: dense.bytes.slice() } };
  return { read: async (tensor, from, to) => decodePart(kept[tensor], from, to) };
}
