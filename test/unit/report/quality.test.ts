import { expect, it } from "vitest";
import { startsOf } from "../../../src/protocol/client-columns.ts";
import { majorityShare, qualityOf } from "../../../src/report/quality.ts";
import type { RoundMetrics } from "../../../src/records/metrics.ts";

/** Training examples of each client by label; keys are labels. */
const held = (...clients: [key: number, count: number][][]) => {
  const pairs = clients.flat();
  return {
    labelCounts: {
      starts: startsOf(Uint32Array.from(clients, ({ length }) => length)),
      keys: Uint32Array.from(pairs, ([key]) => key),
      counts: Uint32Array.from(pairs, ([, count]) => count),
    },
  };
};

it("the share of the most common label is taken over all clients", () => {
  const clients = held(
    [
      [0, 1],
      [1, 2],
    ],
    [
      [0, 4],
      [1, 1],
    ],
  );
  expect(majorityShare(clients)).toBe(5 / 8);
  expect(majorityShare(held([]))).toBeUndefined();
});

it("200,000 labels do not overflow the search for the most common one", () => {
  const all = Array.from({ length: 200_000 }, (_, label): [number, number] => [label, label === 150_000 ? 200_001 : 1]);
  expect(majorityShare(held(all))).toBe(200_001 / 400_000);
});

it("a task with F1 and without accuracy is measured by it, in points of %, with its interval", () => {
  const interval = { name: "f1", low: 0.4, high: 0.6 };
  const tier = { r: 1, loss: 1, perplexity: null, accuracy: null, own: [{ name: "f1", value: 0.5 }], intervals: [interval] };
  const rounds = [{ round: 0, byTier: [tier] }] as unknown as readonly RoundMetrics[];
  const quality = qualityOf(rounds);
  const [{ byTier }] = rounds as [RoundMetrics];
  expect([quality.name, quality.of(byTier[0]!), quality.interval(byTier[0]!)]).toEqual(["F1", 0.5, interval]);
  expect([quality.format(0.5), quality.formatChange(0.5, 0.625)]).toEqual(["50.0 %", "+12.5 points"]);
});
