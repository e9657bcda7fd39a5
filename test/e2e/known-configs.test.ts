import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { buildRun, federate, loadConfig, loadRun } from "../../src/index.ts";
import { python, root, temporaryFolder } from "../support/e2e.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

// The shipped configs of published settings, with a tiny model of the same architecture, rows of the same shape, and fewer
// steps.

const folder = temporaryFolder();
const known = [
  { name: "flora-dolly", model: "tinyllama", data: "dolly.parquet", own: ["fit.local_steps=2"], ranks: [4, 8, 16, 32, 64] },
  {
    name: "flowertune-general",
    model: "mistral",
    data: "alpaca.parquet",
    // 4 bits need CUDA.
    own: ["model.quantization=", "fit.local_steps=2", "evaluate.every=1"],
    ranks: [32],
  },
  {
    name: "raflora-20newsgroups",
    model: "roberta",
    data: "newsgroups",
    own: ["data.partition.min_examples=4", "fit.local_steps=2", "evaluate.every=1"],
    ranks: [4, 8, 16, 32, 64],
  },
];

const pool = sharedWorkers();

async function trainConfig(name: string, set: readonly string[]) {
  const options = buildRun(await loadConfig(path.join(root, "configs", `${name}.yaml`), { set }));
  return federate(onPool(options, pool())).result;
}

describe("a published setting runs on a small scale:", () => {
  beforeAll(() => {
    execFileSync(python, [path.join(root, "test/fixtures/known_data.py"), folder()], { env: { ...process.env, HF_HUB_OFFLINE: "1" } });
  });

  test.each(known)("$name", async ({ name, model, data, own, ranks }) => {
    const set = [
      `model.name_or_path=${path.join(folder(), model)}`,
      `data.path=${path.join(folder(), data)}`,
      `runs_dir=${folder()}/runs`,
      "rounds=2",
      "data.eval_examples=24",
      "fit.lr=3.0e-3",
      ...own,
    ];
    const { metrics, layout, directory } = await trainConfig(name, set);
    expect(layout.tiers).toEqual(ranks);
    expect(new Set(readdirSync(path.join(directory, "adapters")))).toEqual(new Set(ranks.map((r) => `r${r}`)));
    const last = metrics.at(-1)!;
    expect(last.failed).toEqual([]);
    expect(last.fitLoss).toBeLessThan(metrics[1]!.fitLoss!);
    for (const { loss } of last.byTier) expect(loss).toBeGreaterThan(0);
  });
});

test("configs/prelort.yaml is PreLort as we read it, and learns", async () => {
  const set = [
    `runs_dir=${folder()}/runs`,
    "rounds=1",
    "data={ path: prelort:wordnet-nouns, text: '{gloss}', label: topic, max_length: 16, max_examples: 600, eval_examples: 32, clients: 10 }",
    "fit.local_steps=2",
  ];
  const { metrics, directory } = await trainConfig("prelort", set);
  expect((await loadRun(directory)).method.name).toBe("prelort");
  // Ranks 16, 8, 8, 4, 4, 2, 2, 2, 1, 1 train 5, 4, 4, 3, 3, 2, 2, 2, 1, 1 truncations, two steps each.
  expect(metrics.at(-1)?.passes).toBe(2 * 27);
  const losses = metrics.map(({ byTier }) => byTier[0]?.loss ?? Infinity);
  expect(losses[1]).toBeLessThan(losses[0] ?? 0);
});
