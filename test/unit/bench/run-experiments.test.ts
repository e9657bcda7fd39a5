import { expect, test } from "vitest";
import type { Experiment } from "../../bench/experiment.ts";
import { runExperiments } from "../../bench/run-experiments.ts";

const experiment = (name: string, options: Partial<Experiment> = {}): Experiment => ({
  name,
  rows: [
    { name: `${name}, a row`, unit: "s", ours: "ours", peer: { limit: 2 } },
    { name: `${name}, another`, unit: "s", ours: "ours", peer: { limit: 4 } },
  ],
  measure: async (_, repeat) => ({ ours: repeat + 1 }),
  ...options,
});

function run(experiments: readonly Experiment[], controller = new AbortController()) {
  const said: string[] = [];
  const context = { python: "", flower: "", folder: "", signal: controller.signal };
  return { said, outcome: runExperiments(experiments, 3, context, (text) => said.push(text)) };
}

test("every row ends in a figure, in what it needs, or in why it failed", async () => {
  const { said, outcome } = run([
    experiment("absent", { needs: { what: "a card", isThere: () => false }, measure: () => expect.unreachable() }),
    experiment("broken", { measure: () => Promise.reject(new Error("no memory")) }),
    experiment("short", { atMostRepeats: 1, needs: { what: "a processor", isThere: () => true } }),
    experiment("whole"),
  ]);
  const { rows, notRun, failed } = await outcome;
  expect(notRun).toEqual(["absent, a row", "absent, another"].map((name) => ({ name, why: "needs a card" })));
  expect(failed).toEqual(["broken, a row", "broken, another"].map((name) => ({ name, why: "no memory" })));
  expect(rows.map(({ name, ours, ratio, repeats }) => [name, ours, ratio, repeats])).toEqual([
    ["short, a row", 1, 0.5, 1],
    ["short, another", 1, 0.25, 1],
    ["whole, a row", 2, 1, 3],
    ["whole, another", 2, 0.5, 3],
  ]);
  expect(said[0]).toBe("absent, a row: not run: needs a card\nabsent, another: not run: needs a card");
  expect(said).toContain("broken: failed: no memory");
});

test("an interrupted campaign ends, and is not taken for an experiment that failed", async () => {
  const controller = new AbortController();
  const stopped = experiment("stopped", {
    measure: () => {
      controller.abort(new Error("Ctrl-C"));
      return Promise.reject(new Error("killed"));
    },
  });
  await expect(run([stopped, experiment("next", { measure: () => expect.unreachable() })], controller).outcome).rejects.toThrow("Ctrl-C");
});
