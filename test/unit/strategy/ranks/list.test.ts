import { expect, test } from "vitest";
import { ConfigError } from "../../../../src/errors.ts";
import { listRanks } from "../../../../src/strategy/ranks/list.ts";
import type { Client } from "../../../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../../../src/base/rng.ts";

const clients = [0, 1, 2].map((index): Client => ({ id: `c${index}`, index, size: 1, labelCounts: [], profile: {} }));
const context = { clients, tiers: [1, 2, 4], rng: (purpose: string) => createRng(deriveSeed(0, purpose)) };

test("a list gives its i-th rank to the i-th client", () => {
  const assign = listRanks([4, 1, 2]);
  expect(clients.map((client) => assign(client, context))).toEqual([4, 1, 2]);
  expect(assign.policy).toEqual({ name: "list", ranks: [4, 1, 2] });
});

test.each([[[4, 1]], [[4, 1, 2, 2]]])("a list of ranks with the wrong length is an error that gives both numbers: %j", (ranks) => {
  const assign = listRanks(ranks);
  expect(() => assign(clients[0]!, context)).toThrow(ConfigError);
  expect(() => assign(clients[0]!, context)).toThrow(new RegExp(`\\b${ranks.length} ranks\\b.*\\b3 clients`));
});

test.each([[[]], [[0]], [[1.5]], [[Number.NaN]]])("a list of invalid ranks is refused: %j", (ranks) => {
  expect(() => listRanks(ranks)).toThrow(expect.objectContaining({ issues: [expect.objectContaining({ path: "listRanks.ranks" })] }));
});
