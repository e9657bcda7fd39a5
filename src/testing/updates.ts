import { type Adapter, prefix } from "../adapter/adapter.ts";
import { type AdapterLayout, type AdapterShape, createLayout } from "../adapter/layout.ts";
import { inTurns } from "../base/turns.ts";
import type { Aggregate, Aggregation, RankedClient, RoundContext, Update } from "../strategy/strategy.ts";
import { requireAccumulator, requireAggregate } from "../strategy/validate-policy-output.ts";
import { seededRng } from "./contexts.ts";

export interface LayoutOptions extends Partial<AdapterShape> {
  /** Ascending; the last is R. */
  readonly tiers?: readonly number[];
  readonly scale?: number;
}

/** By default tiers 1, 2 and 4 of one module `linear` of 4 → 4, so that a row is [4 values of A, 4 of B], and no dense part. */
export function layoutOf({ tiers = [1, 2, 4], scale = 2, modules, dense = [] }: LayoutOptions = {}): AdapterLayout {
  return createLayout({ r: tiers.at(-1) ?? 1, tiers, scale }, { modules: modules ?? [{ name: "linear", in: 4, out: 4 }], dense });
}

/** An adapter of rank r with every value 0. */
export function zeroAdapter({ width, denseSize }: Pick<AdapterLayout, "width" | "denseSize">, r: number): Adapter {
  return { r, rows: new Float32Array(r * width), dense: new Float32Array(denseSize) };
}

/** An adapter of rank r with values between -1 and 1 that depend on the seed only. */
export function randomAdapter(layout: Pick<AdapterLayout, "width" | "denseSize">, r: number, seed: number | string = 0): Adapter {
  const rng = seededRng(seed, "adapter");
  const { rows, dense } = zeroAdapter(layout, r);
  return { r, rows: rows.map(() => 2 * rng.next() - 1), dense: dense.map(() => 2 * rng.next() - 1) };
}

/** A client's update: `delta` added to the prefix of the global adapter at the client's rank. */
export function updateOf({ layout, global }: RoundContext, client: RankedClient, delta: Adapter): Update {
  return { clientId: client.id, r: client.r, n: client.size, delta, received: prefix(global, layout, client.r) };
}

/** A random update from each client of the round. */
export function updatesOf(context: RoundContext, seed: number | string = 0): readonly Update[] {
  return context.clients.map((client) => updateOf(context, client, randomAdapter(context.layout, client.r, `${seed}/${client.id}`)));
}

/** Runs a round of an aggregation, and checks its output as a real run does. */
export async function aggregate(aggregation: Aggregation, context: RoundContext, updates: readonly Update[]): Promise<Aggregate> {
  const accumulator = aggregation.begin(context);
  requireAccumulator("begin()", accumulator);
  for (const update of updates) await accumulator.add(aggregation.readsSpool ? spooled(update) : update);
  const aggregated = await accumulator.finish();
  await inTurns(requireAggregate("finish()", aggregated, context.layout));
  return aggregated;
}

/** Provides an update as if it were on disk. */
function spooled(update: Update): Update {
  return { ...update, spooled: { read: async (tensor, from, to) => update.delta[tensor].slice(from, to) } };
}
