import { createHash } from "node:crypto";
import { type AdapterLayout, type RankedClient, segmentWise } from "prelort";
import { roundContext } from "prelort/testing";

/** Folds updates in as a round does, and prints the throughput: `node fold-controller.js '{"r": 64, …}'`. */
export interface FoldAsked {
  readonly r: number;
  readonly width: number;
  readonly ranks: readonly number[];
  readonly passes: number;
}

const { r, width, ranks, passes } = JSON.parse(process.argv[2] ?? "") as FoldAsked;
const layout: AdapterLayout = {
  r,
  tiers: [...new Set(ranks)].toSorted((a, b) => a - b),
  scale: 1,
  modules: [{ name: "m", in: width / 2, out: width / 2, offset: 0 }],
  width,
  dense: [],
  denseSize: 0,
};
const clients = ranks.map((rank, index): RankedClient => {
  return { id: `c${index}`, index, size: 100 + index, r: rank, labelCounts: [], profile: {} };
});
const dense = new Float32Array(0);
const global = { r, rows: new Float32Array(r * width), dense };
// Values that are not short binary fractions, so that a sum that depends on the order differs.
const update = Float32Array.from({ length: r * width }, (_, place) => Math.sin(place) / 100);
const aggregation = segmentWise();

async function fold(order: readonly RankedClient[]): Promise<{ readonly seconds: number; readonly sha256: string }> {
  const accumulator = aggregation.begin(roundContext(layout, clients, { global }));
  const started = performance.now();
  for (const client of order) {
    const delta = { r: client.r, rows: update.subarray(0, client.r * width), dense };
    await accumulator.add({ clientId: client.id, r: client.r, n: client.size, delta, received: delta });
  }
  const seconds = (performance.now() - started) / 1000;
  const finished = await accumulator.finish();
  return { seconds, sha256: createHash("sha256").update(finished.global.rows).digest("hex") };
}

const folds: Awaited<ReturnType<typeof fold>>[] = [];
for (let pass = 0; pass <= passes; pass++) folds.push(await fold(pass % 2 === 0 ? clients : clients.toReversed()));
if (new Set(folds.map(({ sha256 }) => sha256)).size > 1) throw new Error("the sum depends on the order of arrival");
const payload = ranks.reduce((sum, rank) => sum + rank, 0) * width * Float32Array.BYTES_PER_ELEMENT;
// The first pass warms up.
const seconds = folds.slice(1).map((each) => each.seconds);
process.stdout.write(`${JSON.stringify({ gbPerS: payload / (seconds.toSorted((a, b) => a - b)[seconds.length >> 1] as number) / 1e9 })}\n`);
