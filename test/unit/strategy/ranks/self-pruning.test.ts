import { describe, expect, it } from "vitest";
import { createLayout } from "../../../../src/adapter/layout.ts";
import { selfPruningRanks, type SelfPruningRanksOptions } from "../../../../src/strategy/ranks/self-pruning.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

// Two modules of four inputs and four outputs each, of which only the first count below.
const modules = ["one", "other"].map((name) => ({ name, in: 4, out: 4 }));
const layout = createLayout({ r: 4, tiers: [1, 2, 4], scale: 2 }, { modules, dense: [] });

/** Rows where the first value of A and of B of each module is as given, [a, b, a', b'], and all else 0. */
function rowsOf(values: readonly (readonly [number, number, number, number])[]): Float32Array {
  return Float32Array.from(values.flatMap((row) => row.flatMap((value) => [value, 0, 0, 0])));
}

function revised(
  before: Parameters<typeof rowsOf>[0],
  after: Parameters<typeof rowsOf>[0],
  options: Partial<SelfPruningRanksOptions> = {},
) {
  const r = before.length;
  const [client] = clientsOf([{ r }]);
  const [received, trained] = [rowsOf(before), rowsOf(after)];
  const delta = trained.map((value, index) => value - (received[index] ?? 0));
  const dense = new Float32Array(0);
  const update = { clientId: "c0", r, n: 10, delta: { r, rows: delta, dense }, received: { r, rows: received, dense } };
  return selfPruningRanks({ ranks: [r], penalty: 0.1, ...options }).revise?.(client!, update, layout);
}

describe("selfPruningRanks", () => {
  // Over components 2 and 3 of rank 4: ‖B‖·‖A‖ = 5·5 of the one module, 1·1 of the other.
  const before = [
    [9, 9, 9, 9],
    [9, 9, 9, 9],
    [3, 3, 1, 1],
    [4, 4, 0, 0],
  ] as const;

  it.each([
    [
      "goes on at the tier below when its tail fell",
      [
        [9, 9, 9, 9],
        [9, 9, 9, 9],
        [3, 3, 1, 0.5],
        [4, 4, 0, 0],
      ],
      2,
    ],
    [
      "keeps its rank when its tail grew",
      [
        [9, 9, 9, 9],
        [9, 9, 9, 9],
        [3, 3, 1, 1.5],
        [4, 4, 0, 0],
      ],
      4,
    ],
    ["keeps its rank when its tail is as it was", before, 4],
    [
      "keeps its rank when only what lies below the tail fell",
      [
        [1, 1, 1, 1],
        [1, 1, 1, 1],
        [3, 3, 1, 1],
        [4, 4, 0, 0],
      ],
      4,
    ],
    [
      "adds the modules up: one fell by less than the other grew",
      [
        [9, 9, 9, 9],
        [9, 9, 9, 9],
        [3, 3, 1, 4],
        [4, 3.68, 0, 0],
      ],
      4,
    ],
  ] as const)("%s", (_, after, expected) => {
    expect(revised(before, after)).toBe(expected);
  });

  it("prunes to the largest tier that γ allows", () => {
    const fallen = before.map((row) => row.map((value) => value / 2) as [number, number, number, number]);
    expect(revised(before, fallen, { gamma: 0.5 })).toBe(2);
    expect(revised(before, fallen, { gamma: 0.49 })).toBe(1);
  });

  it("keeps the lowest tier", () => expect(revised([[2, 2, 2, 2]], [[1, 1, 1, 1]])).toBe(1));

  it("keeps a rank whose tail nobody has trained: a product of 0 cannot fall", () => {
    expect(
      revised(
        [
          [1, 1, 1, 1],
          [5, 0, 5, 0],
        ],
        [
          [1, 1, 1, 1],
          [1, 0, 1, 0],
        ],
      ),
    ).toBe(2);
  });

  it("starts from its list, asks fits for the penalty, and carries its options", () => {
    const assign = selfPruningRanks({ ranks: [4, 1], penalty: 0.1 });
    const clients = clientsOf([{}, {}]);
    expect(clients.map((client) => assign(client, selectionContext(clients)))).toEqual([4, 1]);
    expect(() => assign(clients[0]!, selectionContext(clientsOf([{}])))).toThrow("holds 2 ranks for 1 clients");
    expect(assign.fitOptions).toEqual({ tailPenalty: 0.1 });
    expect(assign.policy).toEqual({ name: "self-pruning", ranks: [4, 1], gamma: 0.99, penalty: 0.1 });
  });

  it.each([
    [{ ranks: [] }, /ranks .*whole numbers of at least 1/],
    [{ gamma: 1 }, /gamma .*above 0 and below 1/],
    [{ gamma: 0 }, /gamma .*above 0 and below 1/],
    [{ penalty: -1 }, /penalty .*at least 0/],
    [{ penalty: Infinity }, /penalty .*at least 0/],
  ])("refuses %j", (options, message) => {
    expect(() => selfPruningRanks({ ranks: [4], penalty: 0.1, ...options })).toThrow(message);
  });
});
