import { expect, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import { assignRanks } from "../../../src/strategy/assign.ts";
import type { Client, PolicyContext, RankedClient } from "../../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../../src/base/rng.ts";

const clients = [10, 20, 30].map((size, index): Client => ({ id: `c${index}`, index, size, labelCounts: [], profile: {} }));
const context: PolicyContext = { clients, tiers: [1, 4], rng: (purpose) => createRng(deriveSeed(0, purpose)) };

test("every client keeps what it was and gets a rank, from a function of one's own too", () => {
  const ranked = assignRanks(clients, ({ size }, { tiers }) => (size > 15 ? tiers.at(-1)! : 1), context);
  expect(ranked).toEqual([1, 4, 4].map((r, index) => ({ ...clients[index], r })));
});

test.each([3, 8, 0, Number.NaN, 1.5])("rank %d, which is no tier, is an error that names the client and the tiers", (rank) => {
  const assign = () => assignRanks(clients, ({ index }) => (index === 1 ? rank : 4), context);
  expect(assign).toThrow(ConfigError);
  expect(assign).toThrow(`gave client c1 rank ${rank}, which is not among lora.tiers [1, 4]`);
});

test("a rank assignment of one's own that throws is named in a RunFailedError, with the client and the cause", () => {
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
  const message = "the rank assignment byMemory of client c1 threw TypeError: x is undefined";
  expect(error).toMatchObject({ kind: "run", message, cause: fault });
});

test("a rank assignment that gives a promise is told so", () => {
  const later = (async () => 4) as unknown as () => number;
  expect(() => assignRanks(clients, later, context)).toThrow("gave client c0 rank a promise, which is not among lora.tiers [1, 4]");
});

test("a policy cannot change the run's clients", () => {
  const ranked = assignRanks(clients, () => 4, context) as RankedClient[];
  expect(() => (ranked.length = 0)).toThrow(TypeError);
  expect(() => Object.assign(ranked[0]!, { id: "another" })).toThrow(TypeError);
});
