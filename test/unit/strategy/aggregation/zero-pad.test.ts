import { describe, expect, it } from "vitest";
import { fedIt } from "../../../../src/strategy/aggregation/fedit.ts";
import { ffaLora } from "../../../../src/strategy/aggregation/ffa-lora.ts";
import { zeroPadDeltas, zeroPadWeights } from "../../../../src/strategy/aggregation/zero-pad.ts";
import { aggregate } from "../../../support/federations.ts";
import { context, large, small } from "../../../support/two-components.ts";

describe("zero-padding of weights", () => {
  it("treats a segment that a client lacks as zeros", () => {
    const { global } = aggregate(zeroPadWeights(), context, [small, large]);
    // (30·[5, 1, 8, 1] + 10·[1, 9, 0, 1]) / 40, and 10·[5, 5, 3, 3] / 40.
    expect([...global.rows]).toEqual([4, 3, 6, 1, 1.25, 1.25, 0.75, 0.75]);
    expect([...global.dense]).toEqual([101]);
  });

  it("shrinks a segment by its coverage when clients change nothing, and loses it when nobody has it", () => {
    const still = [small, large].map((update) => ({ ...update, delta: { ...update.delta, rows: update.delta.rows.map(() => 0) } }));
    expect([...aggregate(zeroPadWeights(), context, still).global.rows]).toEqual([1, 1, 0, 0, 0.5, 0.5, 0, 0]);
    expect([...aggregate(zeroPadWeights(), context, still.slice(0, 1)).global.rows]).toEqual([1, 1, 0, 0, 0, 0, 0, 0]);
  });

  it("changes nothing when nobody reported", () => {
    expect(aggregate(zeroPadWeights(), context, []).global).toEqual(context.global);
  });
});

it("zero-padding of deltas divides by all clients that reported, and loses no segment", () => {
  const { global } = aggregate(zeroPadDeltas(), context, [small, large]);
  expect([...global.rows]).toEqual([4, 3, 6, 1, 2 + 0.75, 2 + 0.75, 0.75, 0.75]);
  expect(aggregate(zeroPadDeltas(), context, [small]).global.rows.slice(4)).toEqual(Float32Array.of(2, 2, 0, 0));
});

describe("FedIT", () => {
  const alike = { ...context, clients: context.clients.map((client) => ({ ...client, r: 2 })) };
  const other = { ...large, clientId: "small", n: 30, delta: { ...large.delta, rows: large.delta.rows.map((value) => 2 * value) } };

  it("is the mean of the factors over both clients, weighted by their examples", () => {
    const { global } = aggregate(fedIt(), alike, [other, large]);
    // (30·2 + 10·1) / 40 = 1.75 times the large client's delta.
    expect([...global.rows]).toEqual([1, 1 + 14, 0, 1.75, 2 + 5.25, 2 + 5.25, 5.25, 5.25]);
  });

  it("refuses a round of clients with different ranks", () => {
    expect(() => fedIt().begin(context)).toThrow(expect.objectContaining({ kind: "refused", received: "ranks 1, 2" }));
  });
});

it("FFA-LoRA asks fits to freeze A, and averages B over the clients that train it", () => {
  const aggregation = ffaLora();
  expect(aggregation.fitOptions).toEqual({ freezeA: true });
  const updates = [small, large].map((update) => ({
    ...update,
    delta: { ...update.delta, rows: update.delta.rows.map((value, index) => (index % 4 < 2 ? 0 : value)) },
  }));
  expect([...aggregate(aggregation, context, updates).global.rows]).toEqual([1, 1, 6, 1, 2, 2, 3, 3]);
});
