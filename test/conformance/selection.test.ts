import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allClients } from "../../src/strategy/selection/all.ts";
import { randomSelection } from "../../src/strategy/selection/random.ts";
import { stratifiedSelection } from "../../src/strategy/selection/stratified.ts";
import type { RankedClient, Selection, SelectionContext } from "../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../src/tensor/rng.ts";

const selections: readonly { readonly name: string; readonly make: (fraction: number) => Selection }[] = [
  { name: "all", make: () => allClients() },
  { name: "random", make: (fraction) => randomSelection({ fraction }) },
  { name: "stratified", make: (fraction) => stratifiedSelection({ fraction }) },
];

const tiers = [1, 4, 16];
const federations = fc.record({
  ranks: fc.array(fc.constantFrom(...tiers), { minLength: 1, maxLength: 40 }),
  fraction: fc.double({ min: 0.01, max: 1, noNaN: true }),
  seed: fc.nat(),
});

function contextOf(ranks: readonly number[], seed: number, round = 1): SelectionContext {
  const clients = ranks.map((r, index): RankedClient => ({ id: `c${index}`, index, size: 10 + index, r, labelCounts: [] }));
  return { round, clients, tiers, rng: (purpose) => createRng(deriveSeed(seed, "round", round, "policy", purpose)) };
}

describe.each(selections)("$name", ({ make }) => {
  it("names known clients, once each, in their order, and at least one", async () => {
    await fc.assert(
      fc.asyncProperty(federations, async ({ ranks, fraction, seed }) => {
        const context = contextOf(ranks, seed);
        const ids = await make(fraction)(context);
        expect(ids.length).toBeGreaterThan(0);
        expect(ids).toEqual(context.clients.map(({ id }) => id).filter((id) => ids.includes(id)));
      }),
    );
  });

  it("decides the same for the same seed and round, whatever it decided before", async () => {
    await fc.assert(
      fc.asyncProperty(federations, async ({ ranks, fraction, seed }) => {
        const selection = make(fraction);
        const first = await selection(contextOf(ranks, seed, 3));
        await selection(contextOf(ranks, seed, 4));
        expect(await selection(contextOf(ranks, seed, 3))).toEqual(first);
        expect(await make(fraction)(contextOf(ranks, seed, 3))).toEqual(first);
      }),
    );
  });

  it("takes all when the fraction is 1", async () => {
    const context = contextOf([16, 4, 4, 1, 1, 1], 0);
    expect(await make(1)(context)).toEqual(["c0", "c1", "c2", "c3", "c4", "c5"]);
  });

  it("carries its name for the run's record", () => {
    expect(make(0.5).policy?.name).toMatch(/^(all|random|stratified)$/);
  });
});

describe.each(selections.slice(1))("$name, which draws,", ({ make }) => {
  const ranks = Array<number>(30).fill(4);

  it("draws others in another round, and in a run of another seed", async () => {
    const draws = [contextOf(ranks, 1, 1), contextOf(ranks, 1, 2), contextOf(ranks, 2, 1)].map(async (context) => make(0.3)(context));
    expect(new Set((await Promise.all(draws)).map(String)).size).toBe(3);
  });

  it("gives every client its turn", async () => {
    const rounds = Array.from({ length: 60 }, async (_, round) => make(0.3)(contextOf(ranks, 7, round + 1)));
    expect(new Set((await Promise.all(rounds)).flat()).size).toBe(30);
  });

  it.each([0, -1, 1.01, Number.NaN])("refuses a fraction of %d", (fraction) => {
    expect(() => make(fraction)).toThrow(/fraction.*must be above 0 and at most 1, got/);
  });
});
