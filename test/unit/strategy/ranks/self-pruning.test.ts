import { describe, expect, it } from "vitest";
import { createLayout } from "../../../../src/adapter/layout.ts";
import { selfPruningRanks, type SelfPruningRanksOptions } from "../../../../src/strategy/ranks/self-pruning.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

// Two modules with four inputs and four outputs each; the tests use only the first input and output.
const modules = ["a", "b"].map((name) => ({ name, in: 4, out: 4 }));
const layout = createLayout({ r: 4, tiers: [1, 2, 4], scale: 2 }, { modules, dense: [] });

/** Rows with the given first values of A and B of each module, [a, b, a', b'], and 0 elsewhere. */
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
  // Over components 2 and 3 of rank 4: ‖B‖·‖A‖ is 5·5 in the first module and 1·1 in the second.
  const before = [
    [9, 9, 9, 9],
    [9, 9, 9, 9],
    [3, 3, 1, 1],
    [4, 4, 0, 0],
  ] as const;

  it.each([
    [
      "moves a client to the next lower tier when its tail shrank",
      [
        [9, 9, 9, 9],
        [9, 9, 9, 9],
        [3, 3, 1, 0.5],
        [4, 4, 0, 0],
      ],
      2,
    ],
    [
      "keeps a client's rank when its tail grew",
      [
        [9, 9, 9, 9],
        [9, 9, 9, 9],
        [3, 3, 1, 1.5],
        [4, 4, 0, 0],
      ],
      4,
    ],
    ["keeps a client's rank when its tail is unchanged", before, 4],
    [
      "keeps a client's rank when only components outside its tail shrank",
      [
        [1, 1, 1, 1],
        [1, 1, 1, 1],
        [3, 3, 1, 1],
        [4, 4, 0, 0],
      ],
      4,
    ],
    [
      "sums over modules: one tail shrank by less than the other grew",
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

  it("never goes below the lowest tier", () => expect(revised([[2, 2, 2, 2]], [[1, 1, 1, 1]])).toBe(1));

  it("keeps a rank whose tail is untrained: a product of 0 cannot shrink", () => {
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

  it("starts from its list of ranks, passes the penalty to fits, and describes its options", () => {
    const assign = selfPruningRanks({ ranks: [4, 1], penalty: 0.1 });
    const clients = clientsOf([{}, {}]);
    expect(clients.map((client) => assign(client, selectionContext(clients)))).toEqual([4, 1]);
    expect(() => assign(clients[0]!, selectionContext(clientsOf([{}])))).toThrow(/\b2 ranks\b.*\b1 clients/);
    expect(assign.fitOptions).toEqual({ tailPenalty: 0.1 });
    expect(assign.policy).toEqual({ name: "self-pruning", ranks: [4, 1], gamma: 0.99, penalty: 0.1 });
  });

  it.each([
    ["ranks", { ranks: [] }],
    ["gamma", { gamma: 1 }],
    ["gamma", { gamma: 0 }],
    ["penalty", { penalty: -1 }],
    ["penalty", { penalty: Infinity }],
  ])("refuses invalid %s: %j", (key, options) => {
    const issues = [expect.objectContaining({ path: `selfPruningRanks.${key}` })];
    expect(() => selfPruningRanks({ ranks: [4], penalty: 0.1, ...options })).toThrow(expect.objectContaining({ issues }));
  });
});
