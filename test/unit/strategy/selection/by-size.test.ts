import { expect, test } from "vitest";
import { bySizeSelection } from "../../../../src/strategy/selection/by-size.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

/** The share of 4000 rounds that each client trains in. */
async function sharesOf(sizes: readonly number[], fraction: number): Promise<number[]> {
  const clients = clientsOf(sizes.map((size) => ({ size })));
  const rounds = Array.from({ length: 4000 }, async (_, index) =>
    bySizeSelection({ fraction })(selectionContext(clients, { round: index + 1 })),
  );
  const ids = (await Promise.all(rounds)).flat();
  return clients.map((client) => ids.filter((id) => id === client.id).length / 4000);
}

// Four standard deviations of a share over 4000 rounds are 0.03.
test("one client a round is drawn with probability proportional to its examples", async () => {
  const shares = await sharesOf([10, 20, 70], 0.3);
  [0.1, 0.2, 0.7].forEach((expected, index) => expect(shares[index]).toBeCloseTo(expected, 1));
});

test("two clients a round are drawn one after the other, without replacement", async () => {
  // c0: first with 1/4, or second: after c1 (1/4) with 1/3, after c2 (1/2) with 1/2.
  const shares = await sharesOf([10, 10, 20], 0.67);
  [1 / 4 + 1 / 12 + 1 / 4, 1 / 4 + 1 / 12 + 1 / 4, 1 / 2 + 1 / 3].forEach((expected, index) =>
    expect(Math.abs((shares[index] ?? 0) - expected)).toBeLessThan(0.04),
  );
});
