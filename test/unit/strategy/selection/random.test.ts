import { expect, test } from "vitest";
import { randomSelection } from "../../../../src/strategy/selection/random.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

test.each([
  [0.3, 10, 3],
  [0.25, 10, 3],
  [0.01, 10, 1],
  [1, 10, 10],
])("a fraction of %d selects, of %d clients, %d", async (fraction, count, expected) => {
  const clients = clientsOf(Array.from({ length: count }, () => ({})));
  expect(await randomSelection({ fraction })(selectionContext(clients))).toHaveLength(expected);
});
