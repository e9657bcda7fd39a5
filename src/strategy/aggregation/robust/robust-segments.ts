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
 * Aggregations that need all updates of a segment at once: each segment moves by what the rule makes of the clients that
 * train it, `modules_to_save` by what it makes of all that reported. One that fewer than `rule.atLeast` trained keeps its
 * value, to the byte: the rule could not tell the malicious from the others. Updates are read back in blocks, in the order
 * of the round's clients: memory is some 4 MiB, or 1,024 values a client, however long they are. Those that were not kept
 * on disk are kept in memory.
 */
export function robustSegments(rule: RobustRule, options: RobustSegmentsOptions): Pick<Aggregation, "begin" | "distribute" | "readsSpool"> {
  requireContributors(options);
  return { distribute: prefix, readsSpool: true, begin: (context) => readBack(context, rule, options) };
}

/** Of all clients together, at a time. */
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
        const place = { from: from * layout.width, to: to * layout.width };
        if (!held.includes(to)) await move(next.rows, place, rule, sourceOf("rows", roll.reportedFrom(to)));
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
interface Place {
  readonly from: number;
  readonly to: number;
}

/** Adds to every value of the place what the rule makes of the clients' values there. */
async function move(target: Float32Array, place: Place, rule: RobustRule, sources: readonly Source[]): Promise<void> {
  if (sources.length === 0) return;
  const chosen = await rule.choose?.(blocksOf(sources, place), sources.length);
  const counted = chosen ? chosen.map((client) => sources[client] as Source) : sources;
  const weights = counted.map(({ weight }) => weight);
  const values = new Float32Array(counted.length);
  let at = place.from;
  for await (const block of blocksOf(counted, place)) {
    for (let index = 0; index < (block[0] as Float32Array).length; index++, at++) {
      for (let client = 0; client < values.length; client++) values[client] = (block[client] as Float32Array)[index] as number;
      const step = rule.step(values, weights);
      // -0 + 0 would be +0.
      if (step !== 0) target[at] = (target[at] as number) + step;
    }
  }
}

async function* blocksOf(sources: readonly Source[], place: Place): AsyncGenerator<readonly Float32Array[]> {
  const length = Math.max(LEAST_BLOCK, Math.floor(VALUES_AT_ONCE / sources.length));
  for (let { from } = place; from < place.to; from += length) {
    // Others get their turn.
    await setImmediate();
    const to = Math.min(from + length, place.to);
    yield await Promise.all(sources.map((source) => source.read(from, to)));
  }
}

/** A copy, as it travelled: the memory it lies in may be used for others. */
function inMemory(delta: Adapter): SpooledUpdate {
  const { rows, dense } = encodingOf(delta);
  const kept = { rows: { ...rows, bytes: rows.bytes.slice() }, dense: { ...dense, bytes: dense.bytes.slice() } };
  return { read: async (tensor, from, to) => decodePart(kept[tensor], from, to) };
}
