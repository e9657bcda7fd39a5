import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { RunFailedError } from "../errors.ts";
import { callPolicy, describeGiven, namePolicy } from "./call-policy.ts";
import type { Accumulator, Aggregate, Aggregation, PartialSums, RankedClient, RoundContext } from "./strategy.ts";
import { firstBeyond } from "../tensor/bounds.ts";
import { asFloat32 } from "../tensor/encoded.ts";
import type { Work } from "../base/turns.ts";

/*
 * A strategy may be the user's own code. Its output is checked at once: later, an error would look like a worker's or a
 * client's fault.
 */

const LARGEST_FLOAT32 = 3.4028234663852886e38;

/** Throws RunFailedError unless an adapter has rank r and the layout's shape. `subject` names what returned it. */
export function requireShape(subject: string, adapter: Adapter | undefined, r: number, { width, denseSize }: AdapterLayout): void {
  const describe = (rank: number | undefined, rows: number | "no", dense: number | "no") =>
    `rank ${rank} with ${rows} floats of rows and ${dense} of dense`;
  const expected = describe(r, r * width, denseSize);
  const given = (values: Float32Array | undefined) => (values instanceof Float32Array ? values.length : "no");
  const received = describe(adapter?.r, given(adapter?.rows), given(adapter?.dense));
  if (received !== expected) throw new RunFailedError(`${subject} must return an adapter of ${expected}, returned ${received}`);
}

/** Throws RunFailedError unless a round ended with a global adapter of finite values, and says who trained what. */
export function* requireAggregate(subject: string, aggregate: Aggregate | undefined, layout: AdapterLayout): Work<void> {
  requireShape(subject, aggregate?.global, layout.r, layout);
  const { global, coverage, state = {} } = aggregate as Aggregate;
  for (const [name, values] of [["rows", global.rows] as const, ["dense", global.dense] as const]) {
    const wrong = yield* firstBeyond(asFloat32(values), LARGEST_FLOAT32);
    if (!wrong) continue;
    const remedy = "a lower fit.lr, or a lower learning rate of the server optimiser, may keep it from diverging";
    throw new RunFailedError(`${subject} returned a global adapter with ${name}[${wrong.index}] = ${wrong.value}; ${remedy}`);
  }
  if (typeof state !== "object" || state === null) {
    throw new RunFailedError(`${subject} must return a state of Float32Arrays, returned ${describeGiven(state)}`);
  }
  const odd = Object.entries(state).find(([, values]) => !(values instanceof Float32Array));
  if (odd) throw new RunFailedError(`${subject} must return a state of Float32Arrays, but ${odd[0]} is not one`);
  if (!Array.isArray(coverage) || coverage.length !== layout.tiers.length) {
    throw new RunFailedError(
      `${subject} must return the coverage of each of the ${layout.tiers.length} tiers, returned ${coverage?.length ?? "none"}`,
    );
  }
  const wrong = coverage.findIndex((entry, index) => !isCoverage(entry, layout.tiers[index]));
  if (wrong < 0) return;
  const expected = `{ r: ${layout.tiers[wrong]}, clients, examples } with whole numbers`;
  throw new RunFailedError(
    `${subject} must return the coverage of tier ${wrong + 1} as ${expected}, returned ${describeGiven(coverage[wrong])}`,
  );
}

/** Throws RunFailedError unless begin() returned something that updates can be added to. */
export function requireAccumulator(subject: string, accumulator: Accumulator | undefined): void {
  const isRight = typeof accumulator?.add === "function" && typeof accumulator.finish === "function";
  if (!isRight)
    throw new RunFailedError(`${subject} must return an object with add() and finish(), returned ${describeGiven(accumulator)}`);
}

/** Throws RunFailedError unless begin() of an aggregation that `addsUp` returned something that takes partial sums. */
export function requirePartialSums(subject: string, { partialSums }: Accumulator): PartialSums {
  const { resolution = 0, largestValue = 0, needsNorm, weigh, merge } = partialSums ?? ({} as Partial<PartialSums>);
  const isComplete = typeof needsNorm === "boolean" && typeof weigh === "function" && typeof merge === "function";
  const isPowerOfTwo = isAboveZero(resolution) && 2 ** Math.round(Math.log2(resolution)) === resolution;
  if (partialSums && isComplete && isPowerOfTwo && isAboveZero(largestValue)) return partialSums;
  const expected = "an object with partialSums { resolution, a power of two; largestValue, above 0; needsNorm, weigh(), merge() }";
  throw new RunFailedError(`${subject} must return ${expected}, since the aggregation addsUp; returned ${describeGiven(partialSums)}`);
}

/** Throws RunFailedError unless an update got a weight that its worker can multiply it by. */
export function requireWeight(subject: string, weight: number | undefined): number {
  if (isAboveZero(weight)) return weight;
  throw new RunFailedError(`${subject} must return a number above 0, returned ${describeGiven(weight)}`);
}

function isAboveZero(value: unknown): value is number {
  return typeof value === "number" && value > 0 && value < Infinity;
}

/** Whether the journal can be read with this entry. */
function isCoverage(entry: Aggregate["coverage"][number] | undefined, tier: number | undefined): boolean {
  const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
  return entry?.r === tier && isCount(entry?.clients) && isCount(entry?.examples);
}

/** A global adapter as it is evaluated and saved: at rank R, with nothing merged into the base. */
export function present(aggregation: Pick<Aggregation, "present" | "policy">, global: Adapter, layout: AdapterLayout): Adapter {
  if (!aggregation.present) return global;
  const subject = `${namePolicy("aggregation", aggregation)}'s present()`;
  const presented = callPolicy(subject, () => aggregation.present?.(global, layout) as Adapter);
  requireShape(subject, presented, layout.r, layout);
  return presented;
}

/** What a client of rank r starts from, according to the aggregation. */
export function distribute(aggregation: Aggregation, global: Adapter, layout: AdapterLayout, r: number): Adapter {
  const subject = `${namePolicy("aggregation", aggregation)}'s distribute()`;
  const start = callPolicy(subject, () => aggregation.distribute(global, layout, r));
  requireShape(subject, start, r, layout);
  return start;
}

/** What this client starts from; undefined if all clients of a rank start from the same. */
export function distributeTo(
  aggregation: Aggregation,
  client: RankedClient,
  context: Pick<RoundContext, "global" | "layout" | "state">,
): Adapter | undefined {
  if (!aggregation.distributeTo) return undefined;
  const subject = `${namePolicy("aggregation", aggregation)}'s distributeTo() of client ${client.id}`;
  const start = callPolicy(subject, () => aggregation.distributeTo?.(client, context) as Adapter);
  requireShape(subject, start, client.r, context.layout);
  return start;
}
