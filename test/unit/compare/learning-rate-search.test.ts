import { describe, expect, it } from "vitest";
import { chooseLearningRate, familyRepresentatives, finalLoss, searchLearningRates } from "../../../src/compare/learning-rate-search.ts";
import type { Runs } from "../../../src/compare/runs.ts";
import type { ConfigOf } from "../../../src/compare/setting.ts";
import type { RunConfig } from "../../../src/config/schema.ts";
import { InterruptedError, RunFailedError, WorkerError } from "../../../src/errors.ts";
import type { RecordedRun } from "../../../src/records/read-run.ts";
import { roundWithLosses } from "../../support/comparison.ts";

const method = (name: string, family: string) => ({ name, family, set: {} });

describe("the method that tunes for a family", () => {
  it("is the family's first, in the order of the methods", () => {
    const methods = [method("a", "x"), method("b", "y"), method("c", "x"), method("d", "y")];
    expect(familyRepresentatives(methods).map(({ name }) => name)).toEqual(["a", "b"]);
  });

  it("is none that sets a learning rate itself", () => {
    const methods = [{ ...method("a", "x"), set: { "fit.lr": 0.1 } }, method("b", "x"), { ...method("c", "y"), set: { "fit.lr": 0.1 } }];
    expect(familyRepresentatives(methods).map(({ name }) => name)).toEqual(["b"]);
  });
});

describe("the loss of a run", () => {
  it("is the mean over the tiers after the last round", () => {
    expect(finalLoss([roundWithLosses([9, 9, 9]), roundWithLosses([4, 2, 3])])).toBe(3);
    expect(finalLoss([roundWithLosses([0])])).toBe(0);
  });

  it("is null if a tier's loss is not finite after the last round", () => {
    expect(finalLoss([roundWithLosses([4, 2]), roundWithLosses([4, null])])).toBeNull();
    expect(finalLoss([roundWithLosses([4, Number.NaN])])).toBeNull();
    expect(finalLoss([roundWithLosses([4, Infinity])])).toBeNull();
    expect(finalLoss([roundWithLosses([4, null]), roundWithLosses([4, 2])])).toBe(3);
  });

  it("is null if a client failed in any round, even if the last loss is finite", () => {
    expect(finalLoss([roundWithLosses([4, 2], ["c1"]), roundWithLosses([3, 1])])).toBeNull();
    expect(finalLoss([roundWithLosses([4, 2]), roundWithLosses([3, 1], ["c0", "c1"])])).toBeNull();
  });

  it("is null if nothing was evaluated", () => {
    expect(finalLoss([])).toBeNull();
    expect(finalLoss([roundWithLosses([])])).toBeNull();
  });
});

describe("the chosen learning rate", () => {
  it("has the lowest loss, wherever it stands among those tried", () => {
    for (const losses of [
      [1, 2, 3],
      [2, 1, 3],
      [3, 2, 1],
    ]) {
      const tried = losses.map((loss) => ({ lr: loss / 100, loss }));
      expect(chooseLearningRate("m", tried)).toEqual({ chosen: 0.01, method: "m", tried });
    }
  });

  it("is the first of those with the same loss", () => {
    const tried = [0.3, 0.1, 0.2].map((lr, index) => ({ lr, loss: index === 0 ? 5 : 4 }));
    expect(chooseLearningRate("m", tried).chosen).toBe(0.1);
  });

  it("a learning rate that diverged is never chosen", () => {
    const tried = [null, 7, null].map((loss, index) => ({ lr: index + 1, loss }));
    expect(chooseLearningRate("m", tried).chosen).toBe(2);
  });

  it("is an error that names the method and the values if all diverged", () => {
    const choose = () =>
      chooseLearningRate(
        "some method",
        [0.1, 20].map((lr) => ({ lr, loss: null })),
      );
    expect(choose).toThrow(RunFailedError);
    expect(choose).toThrow(/some method[^]*0\.1: [^]*20: [^]*learning_rates\.values/);
  });
});

describe("a search", () => {
  const learningRates = { values: [0.1, 1], rounds: 3, seed: 9 };
  const methods = [method("One", "first"), method("Two", "first"), method("Three", "The rest")];
  /** A fake config holds only its assignments. */
  const configOf: ConfigOf = ({ name }, set) => Promise.resolve({ method: name, set } as unknown as RunConfig);

  function runsWith(resultOf: (assignments: string) => number | Error): Pick<Runs, "get"> & { readonly asked: string[] } {
    const asked: string[] = [];
    return {
      asked,
      async get(config) {
        const { method: name, set } = config as unknown as { method: string; set: string[] };
        const assignments = [name, ...set].join(" ");
        asked.push(assignments);
        const result = resultOf(assignments);
        if (result instanceof InterruptedError) throw result;
        if (result instanceof WorkerError) return result;
        return { rounds: [roundWithLosses([result as number])] } as unknown as RecordedRun;
      },
    };
  }

  it("runs the first method of each family with every value, on the seed and for the rounds of the search", async () => {
    const runs = runsWith((assignments) => (assignments.includes("fit.lr=1 ") ? 1 : 2));
    const found = await searchLearningRates({ learningRates, methods }, configOf, runs);
    expect(runs.asked.toSorted()).toEqual([
      "One seed=9 rounds=3 fit.lr=0.1 name=lr.first.0.1",
      "One seed=9 rounds=3 fit.lr=1 name=lr.first.1",
      "Three seed=9 rounds=3 fit.lr=0.1 name=lr.the-rest.0.1",
      "Three seed=9 rounds=3 fit.lr=1 name=lr.the-rest.1",
    ]);
    const tried = [
      { lr: 0.1, loss: 2 },
      { lr: 1, loss: 1 },
    ];
    expect(found).toEqual({ first: { chosen: 1, method: "One", tried }, "The rest": { chosen: 1, method: "Three", tried } });
  });

  it("counts a run that failed as diverged", async () => {
    const died = new WorkerError("died", { workerId: "w0" });
    const runs = runsWith((assignments) => (assignments.includes("fit.lr=1 ") ? died : 2));
    const found = await searchLearningRates({ learningRates, methods: methods.slice(0, 2) }, configOf, runs);
    expect(found?.["first"]).toMatchObject({ chosen: 0.1, tried: [{ loss: 2 }, { loss: null }] });
  });

  it("fails if every value of a family failed, once the other families' runs have ended", async () => {
    const died = new WorkerError("died", { workerId: "w0" });
    const runs = runsWith((assignments) => (assignments.startsWith("One") ? died : 2));
    await expect(searchLearningRates({ learningRates, methods }, configOf, runs)).rejects.toThrow(
      /^One [^]*0\.1: worker w0: died\n  1: worker w0: died$/,
    );
    expect(runs.asked).toHaveLength(4);
  });

  it("rejects with an interrupt", async () => {
    const runs = runsWith(() => new InterruptedError());
    await expect(searchLearningRates({ learningRates, methods }, configOf, runs)).rejects.toBeInstanceOf(InterruptedError);
  });

  it("runs nothing for a comparison without learning rates", async () => {
    const runs = runsWith(() => 1);
    expect(await searchLearningRates({ learningRates: undefined, methods }, configOf, runs)).toBeNull();
    expect(runs.asked).toEqual([]);
  });
});
