import { expect, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import { assignRanks } from "../../../src/strategy/assign.ts";
import type { Client, PolicyContext, RankedClient } from "../../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../../src/base/rng.ts";

const clients = [10, 20, 30].map((size, index): Client => ({ id: `c${index}`, index, size, labelCounts: [], profile: {} }));
const context: PolicyContext = { clients, tiers: [1, 4], rng: (purpose) => createRng(deriveSeed(0, purpose)) };

test("a custom rank assignment gives every client a rank and leaves its other fields unchanged", () => {
  const ranked = assignRanks(clients, ({ size }, { tiers }) => (size > 15 ? tiers.at(-1)! : 1), context);
  expect(ranked).toEqual([1, 4, 4].map((r, index) => ({ ...clients[index], r })));
});

test.each([3, 8, 0, Number.NaN, 1.5])(
  "an assigned rank of %d, which is not a tier, is an error that names the client and the tiers",
  (rank) => {
    const assign = () => assignRanks(clients, ({ index }) => (index === 1 ? rank : 4), context);
    expect(assign).toThrow(ConfigError);
    expect(assign).toThrow(new RegExp(`\\bc1\\b.*\\brank ${rank}\\b.*lora\\.tiers \\[1, 4\\]`));
  },
);

test("when a custom rank assignment throws, the RunFailedError names the assignment, the client and the cause", () => {
  const fault = new TypeError("x is undefined");
  const byMemory = ({ index }: Client) => {
    if (index === 1) throw fault;
    return 4;
  };
  const error = (() => {
    try {
      return assignRanks(clients, byMemory, context);
    } catch (cause) {
      return cause;
    }
  })();
  const message = expect.stringMatching(/byMemory.*\bc1\b.*TypeError: x is undefined/);
  expect(error).toMatchObject({ kind: "run", message, cause: fault });
});

test("a rank assignment that returns a promise is an error that says so", () => {
  const later = (async () => 4) as unknown as () => number;
  expect(() => assignRanks(clients, later, context)).toThrow(/\bc0\b.*a promise.*lora\.tiers \[1, 4\]/);
});

test("a policy cannot change the run's clients", () => {
  const ranked = assignRanks(clients, () => 4, context) as RankedClient[];
  expect(() => (ranked.length = 0)).toThrow(TypeError);
  expect(() => Object.assign(ranked[0]!, { id: "another" })).toThrow(TypeError);
});
