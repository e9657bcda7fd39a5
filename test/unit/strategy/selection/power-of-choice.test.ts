import { expect, test } from "vitest";
import { powerOfChoiceSelection } from "../../../../src/strategy/selection/power-of-choice.ts";
import type { RankedClient } from "../../../../src/strategy/strategy.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

const answering = (losses: readonly number[]) => async (candidates: readonly RankedClient[]) =>
  candidates.map(({ index }) => losses[index] ?? Number.NaN);

test.each([
  ["clients with the highest losses", [1, 3, 2, 0.5], ["c1", "c2"]],
  ["the earlier clients when losses are equal", [1, 1, 1, 1], ["c0", "c1"]],
  ["clients whose loss is not finite before all others", [9, 1, Infinity, Number.NaN], ["c2", "c3"]],
  ["the earlier of several clients whose loss is not finite", [Number.NaN, Infinity, Infinity, 3], ["c0", "c1"]],
])("power of choice selects %s", async (_, losses, expected) => {
  const context = selectionContext(clientsOf([{}, {}, {}, {}]), { losses: answering(losses) });
  expect(await powerOfChoiceSelection({ fraction: 0.5, candidates: 4 })(context)).toEqual(expected);
});

test("power of choice asks the given number of distinct candidates in order, and selects only among them", async () => {
  const clients = clientsOf(Array.from({ length: 12 }, () => ({})));
  for (let round = 1; round <= 20; round++) {
    let asked: readonly RankedClient[] = [];
    const losses = async (candidates: readonly RankedClient[]) => {
      asked = candidates;
      return candidates.map(({ index }) => index);
    };
    const ids = await powerOfChoiceSelection({ fraction: 0.25, candidates: 5 })(selectionContext(clients, { round, losses }));
    expect(asked).toHaveLength(5);
    expect(asked).toEqual(clients.filter((client) => asked.includes(client)));
    // The losses ascend.
    expect(ids).toEqual(asked.slice(-3).map(({ id }) => id));
  }
});

test("power of choice draws candidates in proportion to their examples", async () => {
  const clients = clientsOf([{ size: 1 }, { size: 1 }, { size: 10_000 }, { size: 10_000 }]);
  const rounds = Array.from({ length: 50 }, async (_, round) =>
    powerOfChoiceSelection({ fraction: 0.25, candidates: 2 })(selectionContext(clients, { round, losses: answering([9, 9, 1, 1]) })),
  );
  const ids = (await Promise.all(rounds)).flat();
  expect(ids.filter((id) => id === "c2" || id === "c3").length).toBeGreaterThan(45);
});

test.each([0, 1.5, -1, Number.NaN])("power of choice refuses %d candidates", (candidates) => {
  expect(() => powerOfChoiceSelection({ fraction: 0.5, candidates })).toThrow(new RegExp(`candidates .*\\b1, got ${candidates}$`));
});
