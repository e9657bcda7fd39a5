import { describe, expect, it } from "vitest";
import { oortScores } from "../../../../src/strategy/selection/oort-scores.ts";
import { oortSelection } from "../../../../src/strategy/selection/oort.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

const anonymous = (count: number) => clientsOf(Array.from({ length: count }, () => ({})));

describe("oortScores", () => {
  it("adds a bonus for the last report's age to the normalised utility, by hand", () => {
    const clients = clientsOf([{ size: 10 }, { size: 20 }, { size: 30 }, {}]);
    // Utilities 20, 80 and 50: 0, 1 and ½ of the way from the lowest to the highest.
    const history = { c0: { round: 4, rmsLoss: 2 }, c1: { round: 1, rmsLoss: 4 }, c2: { round: 2, rmsLoss: 5 / 3 } };
    const scores = oortScores(selectionContext(clients, { round: 5, history }), undefined);
    expect(scores.map(({ client }) => client.id)).toEqual(["c0", "c1", "c2"]);
    // √(0.1·ln 5) = 0.401181…
    [0.401181 / 2, 1 + 0.401181, 0.5 + 0.401181 / Math.SQRT2].forEach((score, index) => expect(scores[index]?.score).toBeCloseTo(score, 5));
  });

  it("clips utilities at the 90th percentile, so that one outlier does not flatten the rest", () => {
    const clients = anonymous(10);
    const losses = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1000];
    const history = Object.fromEntries(losses.map((rmsLoss, index) => [`c${index}`, { round: 1, rmsLoss }]));
    const scores = oortScores(selectionContext(clients, { round: 2, history }), undefined).map(({ score }) => score);
    const age = Math.sqrt(0.1 * Math.log(2));
    expect(scores[9]).toBe(scores[8]);
    expect(scores[9]).toBeCloseTo(1 + age, 12);
    expect(scores[4]).toBeCloseTo(0.5 + age, 12);
  });

  it("can score 200,000 clients", () => {
    const clients = anonymous(200_000);
    const history = Object.fromEntries(clients.map(({ id, index }) => [id, { round: 1, rmsLoss: 1 + index }]));
    const scores = oortScores(selectionContext(clients, { round: 2, history }), undefined).map(({ score }) => score);
    const age = Math.sqrt(0.1 * Math.log(2));
    expect(scores).toHaveLength(200_000);
    expect([scores[0], scores[199_999]]).toEqual([age, 1 + age]);
  });

  it("counts a utility that is not finite as the highest", () => {
    const history = { c0: { round: 1, rmsLoss: 1 }, c1: { round: 1, rmsLoss: null }, c2: { round: 1, rmsLoss: 3 } };
    const [low, unknown, high] = oortScores(selectionContext(anonymous(3), { round: 2, history }), undefined).map(({ score }) => score);
    expect(unknown).toBe(high);
    expect(low).toBeLessThan(high ?? 0);
  });

  it.each([[[2, 2]], [[null, null]], [[0, 0]]])("depends on age alone when all utilities are equal: %j", (losses) => {
    const history = { c0: { round: 1, rmsLoss: losses[0] ?? null }, c1: { round: 4, rmsLoss: losses[1] ?? null } };
    const age = Math.sqrt(0.1 * Math.log(5));
    const scores = oortScores(selectionContext(anonymous(2), { round: 5, history }), undefined).map(({ score }) => score);
    expect(scores).toEqual([age, expect.closeTo(age / 2, 12)]);
  });

  it("multiplies a slower client's score by (T / d)², and leaves clients that are faster or declare no speed", () => {
    const clients = clientsOf([{ profile: { speed: 1 } }, { profile: { speed: 8 } }, {}]);
    const history = { c0: { round: 1, rmsLoss: 1 }, c1: { round: 1, rmsLoss: 1 }, c2: { round: 1, rmsLoss: 1 } };
    const context = selectionContext(clients, { round: 3, history });
    const [slow, fast, silent] = oortScores(context, 4).map(({ score }) => score);
    expect(slow).toBeCloseTo((silent ?? 0) / 16, 12);
    expect(fast).toBe(silent);
    const unpenalised = oortScores(context, undefined).map(({ score }) => score);
    expect(unpenalised).toEqual([silent, silent, silent]);
  });
});

describe("oortSelection", () => {
  /** The first `seen` clients reported in the previous round; their losses ascend. */
  const historyOf = (seen: number, round: number) =>
    Object.fromEntries(Array.from({ length: seen }, (_, index) => [`c${index}`, { round: round - 1, rmsLoss: 1 + index }]));
  const selected = async (count: number, seen: number, round: number, fraction: number) => {
    const ids = await oortSelection({ fraction })(selectionContext(anonymous(count), { round, history: historyOf(seen, round) }));
    return { seen: ids.filter((id) => Number(id.slice(1)) < seen), unseen: ids.filter((id) => Number(id.slice(1)) >= seen) };
  };

  it.each([
    // Of 20 places in round 2, ε = 0.9·0.98² = 0.864: ⌊20·0.136⌋ = 2 exploit. In round 60 the floor of 0.3 holds: 14.
    ["leaves most places to exploration in an early round", 2, 50, 2, 18],
    ["leaves fewer places to exploration in a late round", 60, 50, 14, 6],
    ["fills places for which there are no unseen clients with seen ones", 2, 95, 15, 5],
    ["only exploits once it has seen every client", 2, 100, 20, 0],
    ["only explores before it has seen any client", 1, 0, 0, 20],
    ["fills places for which there are no seen clients with unseen ones", 60, 3, 3, 17],
  ])("%s", async (_, round, seen, exploited, explored) => {
    const ids = await selected(100, seen, round, 0.2);
    expect(ids.seen).toHaveLength(exploited);
    expect(ids.unseen).toHaveLength(explored);
  });

  it("exploits only clients that score close to the last one that would be taken", async () => {
    // Ten clients seen, one place: the two highest scores, clipped to the same value, are well above the third.
    for (let seed = 0; seed < 20; seed++) {
      const context = selectionContext(anonymous(10), { seed, round: 2, history: historyOf(10, 2) });
      const [id] = await oortSelection({ fraction: 0.1 })(context);
      expect(["c8", "c9"]).toContain(id);
    }
  });

  it("explores the fastest clients first if all unseen clients declare their speed", async () => {
    const speeds = [1e-6, 1e-6, 1e-6, 1, 1];
    const declared = clientsOf(speeds.map((speed) => ({ profile: { speed } })));
    const silent = clientsOf([{}, ...speeds.slice(1).map((speed) => ({ profile: { speed } }))]);
    const slowOnes = new Set<string>();
    for (let seed = 0; seed < 30; seed++) {
      expect(await oortSelection({ fraction: 0.4 })(selectionContext(declared, { seed }))).toEqual(["c3", "c4"]);
      for (const id of await oortSelection({ fraction: 0.4 })(selectionContext(silent, { seed }))) slowOnes.add(id);
    }
    expect(slowOnes).toContain("c1");
  });

  it("describes its options for the run's record", () => {
    expect(oortSelection({ fraction: 0.2 }).policy).toEqual({ name: "oort", fraction: 0.2 });
    expect(oortSelection({ fraction: 0.2, preferredSpeed: 4 }).policy).toEqual({ name: "oort", fraction: 0.2, preferredSpeed: 4 });
  });

  it.each([0, -1, Infinity, Number.NaN])("refuses a preferred speed of %d", (preferredSpeed) => {
    expect(() => oortSelection({ fraction: 0.5, preferredSpeed })).toThrow(new RegExp(`preferredSpeed .*\\b0, got ${preferredSpeed}$`));
  });
});
