import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { execa } from "execa";
import type { ComparisonResult } from "prelort";
import { cacheFolder, packageRoot } from "../../../dist/installation.js";
import type { Context, Experiment } from "../experiment.ts";

const RUNS = 16;

/** The runs of a comparison as one batch, against as many at a time as there are cores. */
export const screening: Experiment = {
  name: "screening",
  atMostRepeats: 2,
  needs: {
    what: "prelort setup --language-models",
    isThere: () => existsSync(path.join(cacheFolder(), "models", "small-llama")),
  },
  rows: [
    { name: `${RUNS} runs of the small Llama, side by side`, unit: "s", ours: "side by side", peer: "one a core", target: { atMost: 0.2 } },
    { name: "the same: largest difference of a loss", unit: "", ours: "difference", peer: { limit: 1e-5 }, target: { atMost: 1 } },
  ],
  async measure(context) {
    // The data of a seed are prepared once.
    await compare("prepared", 1, ["--jobs", "1"], context);
    const alone = await compare("alone", RUNS / 2, ["--jobs", `${availableParallelism()}`], context);
    const beside = await compare("beside", RUNS / 2, ["--side-by-side", `${RUNS}`], context);
    const differences = alone.losses.map((loss, index) => Math.abs(loss - (beside.losses[index] as number)));
    return { "side by side": beside.seconds, "one a core": alone.seconds, difference: Math.max(...differences) };
  },
};

/** Two methods with this many learning rates each, for a round. */
async function compare(name: string, rates: number, options: readonly string[], { folder, signal }: Context) {
  const file = path.join(folder, `${name}.yaml`);
  const methods = Array.from({ length: rates }, (_, index) => {
    const set = { "fit.lr": 0.002 * (index + 1) };
    return [
      { name: `none ${index}`, set: { ...set, "fit.objective": "none" } },
      { name: `flex ${index}`, set: { ...set, "fit.objective": "none", "strategy.aggregation": { name: "flexlora" } } },
    ];
  }).flat();
  const setting = path.join(packageRoot(), "configs", "generation-llama.yaml");
  // JSON is YAML.
  writeFileSync(file, JSON.stringify({ name, runs_dir: folder, setting, seeds: [1], reference: "none 0", methods }));
  const set = ["rounds=2", "evaluate.every=2", "evaluate.max_new_tokens=0"].flatMap((each) => ["--set", each]);
  const main = path.join(packageRoot(), "dist", "cli", "main.js");
  const started = performance.now();
  await execa(process.execPath, [main, "compare", file, ...set, ...options], { cancelSignal: signal });
  const seconds = (performance.now() - started) / 1000;
  const { outcomes } = JSON.parse(readFileSync(path.join(folder, name, "compare.json"), "utf8")) as ComparisonResult;
  const inOrder = outcomes.toSorted((a, b) => (a.method < b.method ? -1 : 1));
  return { seconds, losses: inOrder.flatMap(({ byTier }) => byTier.map(({ loss }) => loss ?? Number.NaN)) };
}
