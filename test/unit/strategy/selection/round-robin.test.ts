import { expect, test } from "vitest";
import { roundRobinSelection } from "../../../../src/strategy/selection/round-robin.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

test.each([
  [
    0.4,
    [
      ["c0", "c1"],
      ["c2", "c3"],
      ["c0", "c4"],
      ["c1", "c2"],
      ["c3", "c4"],
      ["c0", "c1"],
    ],
  ],
  [0.1, [["c0"], ["c1"], ["c2"], ["c3"], ["c4"], ["c0"]]],
  [
    0.8,
    [
      ["c0", "c1", "c2", "c3"],
      ["c0", "c1", "c2", "c4"],
    ],
  ],
])("round-robin with a fraction of %d selects five clients in rotation", async (fraction, turns) => {
  const selection = roundRobinSelection({ fraction });
  const rounds = turns.map(async (_, index) => selection(selectionContext(clientsOf([{}, {}, {}, {}, {}]), { round: index + 1 })));
  expect(await Promise.all(rounds)).toEqual(turns);
});

test("round-robin selects a round's clients without having seen earlier rounds", async () => {
  const clients = clientsOf([{}, {}, {}, {}, {}]);
  expect(await roundRobinSelection({ fraction: 0.4 })(selectionContext(clients, { round: 1003 }))).toEqual(["c0", "c4"]);
});
