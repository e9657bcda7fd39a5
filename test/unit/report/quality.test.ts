import { expect, it } from "vitest";
import { startsOf } from "../../../src/protocol/client-columns.ts";
import { majorityShare } from "../../../src/report/quality.ts";

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
