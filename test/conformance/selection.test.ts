import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allClients } from "../../src/strategy/selection/all.ts";
import { bySizeSelection } from "../../src/strategy/selection/by-size.ts";
import { oortSelection } from "../../src/strategy/selection/oort.ts";
import { powerOfChoiceSelection } from "../../src/strategy/selection/power-of-choice.ts";
import { randomSelection } from "../../src/strategy/selection/random.ts";
import { roundRobinSelection } from "../../src/strategy/selection/round-robin.ts";
import { stratifiedSelection } from "../../src/strategy/selection/stratified.ts";
import type { ClientHistory, Selection, SelectionContext } from "../../src/strategy/strategy.ts";
import { clientsOf, selectionContext } from "../../src/testing/index.ts";

interface Candidate {
  readonly name: string;
  readonly make: (fraction: number) => Selection;
  /** Whether it depends on the seed. */
  readonly draws: boolean;
}

const selections: readonly Candidate[] = [
  { name: "all", make: () => allClients(), draws: false },
  { name: "round-robin", make: (fraction) => roundRobinSelection({ fraction }), draws: false },
  { name: "random", make: (fraction) => randomSelection({ fraction }), draws: true },
  { name: "stratified", make: (fraction) => stratifiedSelection({ fraction }), draws: true },
  { name: "by-size", make: (fraction) => bySizeSelection({ fraction }), draws: true },
  { name: "power-of-choice", make: (fraction) => powerOfChoiceSelection({ fraction, candidates: 12 }), draws: true },
  { name: "oort", make: (fraction) => oortSelection({ fraction, preferredSpeed: 2 }), draws: true },
];

const tiers = [1, 4, 16];
const reports = fc.option(
  fc.record({ round: fc.integer({ min: 1, max: 2 }), rmsLoss: fc.option(fc.double({ min: 0, max: 10, noNaN: true })) }),
);
const members = fc.record({ r: fc.constantFrom(...tiers), size: fc.integer({ min: 1, max: 5000 }), last: reports, loss: fc.double() });
const federations = fc.record({
  members: fc.array(members, { minLength: 1, maxLength: 40 }),
  fraction: fc.double({ min: 0.01, max: 1, noNaN: true }),
  seed: fc.nat(),
});
type Member = { readonly r: number; readonly size: number; readonly last: ClientHistory | null; readonly loss: number };

function contextOf(members: readonly Member[], seed: number, round: number): SelectionContext {
  const clients = clientsOf(members.map(({ r, size }, index) => ({ r, size, profile: { speed: 1 + (index % 4) } })));
  const history = Object.fromEntries(members.flatMap(({ last }, index) => (last ? [[`c${index}`, last]] : [])));
  const losses: SelectionContext["losses"] = async (candidates) => candidates.map(({ index }) => members[index]?.loss ?? 0);
  return selectionContext(clients, { seed, round, history, losses, tiers });
}

/** Equal members, except that the order of their losses changes from round to round. */
const alike = (count: number, round = 1) =>
  Array.from({ length: count }, (_, index): Member => ({ r: 4, size: 10, last: null, loss: (13 * (index + round)) % 30 }));

describe.each(selections)("$name", ({ name, make }) => {
  it("names known clients, once each, in their order, and at least one", async () => {
    await fc.assert(
      fc.asyncProperty(federations, async ({ members, fraction, seed }) => {
        const context = contextOf(members, seed, 3);
        const ids = await make(fraction)(context);
        expect(ids.length).toBeGreaterThan(0);
        expect(ids).toEqual(context.clients.map(({ id }) => id).filter((id) => ids.includes(id)));
      }),
    );
  });

  it("selects the same clients for the same seed and round, whatever it selected before", async () => {
    await fc.assert(
      fc.asyncProperty(federations, async ({ members, fraction, seed }) => {
        const selection = make(fraction);
        const first = await selection(contextOf(members, seed, 3));
        await selection(contextOf(members, seed, 4));
        expect(await selection(contextOf(members, seed, 3))).toEqual(first);
        expect(await make(fraction)(contextOf(members, seed, 3))).toEqual(first);
      }),
    );
  });

  it("selects all clients when the fraction is 1", async () => {
    const context = contextOf(alike(6), 0, 1);
    expect(await make(1)(context)).toEqual(["c0", "c1", "c2", "c3", "c4", "c5"]);
  });

  it("carries its name for the run's record", () => {
    expect(make(0.5).policy?.name).toBe(name);
  });
});

describe.each(selections.slice(1))("$name, which takes a fraction,", ({ make, draws }) => {
  it("selects every client sooner or later", async () => {
    const rounds = Array.from({ length: 60 }, async (_, round) => make(0.3)(contextOf(alike(30, round), 7, round + 1)));
    expect(new Set((await Promise.all(rounds)).flat()).size).toBe(30);
  });

  it("selects others in another round", async () => {
    const [a, b] = [await make(0.3)(contextOf(alike(30), 1, 1)), await make(0.3)(contextOf(alike(30), 1, 2))];
    expect(a).not.toEqual(b);
  });

  // Public code that seeds its draw with the round number alone trains the same clients under every seed.
  it(draws ? "draws others in a run with another seed" : "selects the same in every run", async () => {
    const [a, b] = [await make(0.3)(contextOf(alike(30), 1, 1)), await make(0.3)(contextOf(alike(30), 2, 1))];
    if (draws) expect(a).not.toEqual(b);
    else expect(a).toEqual(b);
  });

  it.each([0, -1, 1.01, Number.NaN])("refuses a fraction of %d", (fraction) => {
    expect(() => make(fraction)).toThrow(/fraction.*must be above 0 and at most 1, got/);
  });
});
