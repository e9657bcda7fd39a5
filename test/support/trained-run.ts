import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { snakeKeys } from "../../src/base/case.ts";
import type { RoundMetrics } from "../../src/records/metrics.ts";
import { tierMetrics } from "./tier-metrics.ts";

const TIERS = [1, 2, 4, 8, 16];
const RANKS = [16, 8, 8, 4, 4, 2, 2, 2, 1, 1];
const LABELS = ["noun.animal", "noun.artifact", "noun.food", "noun.person"];

export interface FixtureOptions {
  readonly task?: "sequence-classification" | "causal-lm";
  readonly name?: string;
  /** Committed rounds, besides round 0. */
  readonly rounds?: number;
}

/** Writes the directory of a run with one failure and a quality that improves with rounds and with rank. */
export async function writeRunFixture(
  directory: string,
  { task = "sequence-classification", name = "quickstart", rounds = 8 }: FixtureOptions = {},
): Promise<void> {
  const isClassifier = task === "sequence-classification";
  const clients = RANKS.map((r, index) => {
    const label_counts = isClassifier ? LABELS.map((_, label) => (index * 31 + label * 17) % 61) : [];
    return { id: `c${String(index).padStart(2, "0")}`, n: 60 + ((index * 53) % 140), r, label_counts, mix: [], tokens: 900 };
  });
  const record = {
    name,
    prelort: "0.1.0",
    method: {
      name: "segment-wise + stratified, full weight 0.5",
      note: "Our reading of PreLort (arXiv 2606.15963), of which only the abstract was available.",
    },
    config: {
      rounds: 8,
      seed: 42,
      model: { name_or_path: "prelort:all-MiniLM-L6-v2", task },
      data: { path: "prelort:wordnet-nouns", clients: RANKS.length, partition: { name: "dirichlet", by: "topic", alpha: 0.5 } },
      lora: { r: 16, tiers: TIERS, scale: 2, target_modules: ["query", "value"] },
      fit: { objective: "stratified", full_weight: 0.5, local_steps: 6, batch_size: 16, lr: 0.001 },
    },
    versions: { node: "v20.20.2", python: "3.11.2", torch: "2.13.0+cpu", peft: "0.21.0" },
    device: { type: "cpu", name: "x86_64" },
    labels: isClassifier ? LABELS : [],
    eval_examples: 256,
    truncated_examples: 12,
    clients,
    base_parameters: 22713728,
    layout: { r: 16, tiers: TIERS, scale: 2, modules: [], width: 9216, dense: [], dense_size: 0 },
  };

  const metrics = Array.from({ length: rounds + 1 }, (_, round): RoundMetrics => {
    const failed = round === 3 ? ["c05"] : [];
    const reporting = round === 0 ? [] : clients.filter(({ id }) => !failed.includes(id));
    const byTier = TIERS.map((r) => {
      const learnt = (1 - 0.72 ** round) * (0.75 + 0.06 * Math.log2(r));
      const noise = round === 0 ? 0 : Math.sin(5 * round + r);
      const loss = 3.3 - 2 * learnt + 0.03 * noise;
      const accuracy = Math.round(256 * (0.04 + 0.7 * learnt + 0.012 * noise)) / 256;
      return isClassifier
        ? tierMetrics(r, {
            loss,
            accuracy,
            macroF1: 0.6 * learnt,
            ece: 0.05,
            examples: 256,
            intervals: [{ name: "accuracy", low: accuracy - 0.03, high: accuracy + 0.04 }],
          })
        : tierMetrics(r, { loss, perplexity: Math.exp(loss), examples: 256 });
    });
    const segments = TIERS.map((r) => ({ r, trainers: reporting.filter((client) => client.r >= r) }));
    const bytes = reporting.reduce((sum, client) => sum + 4 * 9216 * client.r, 0);
    return {
      round,
      byTier,
      merged: null,
      byClient: [],
      energy: TIERS.map((r) => ({ r, energy: round / r })),
      fitLoss: round === 0 ? null : 2.9 * 0.85 ** round,
      reported: reporting.map(({ id }) => id),
      failed,
      late: [],
      coverage:
        round === 0
          ? []
          : segments.map(({ r, trainers }) => ({ r, clients: trainers.length, examples: trainers.reduce((sum, { n }) => sum + n, 0) })),
      passes: 6 * reporting.length,
      bytesDown: bytes,
      bytesUp: bytes,
    };
  });
  const timings = metrics.flatMap(({ round }) =>
    round === 0
      ? [
          { round, phase: "start workers", seconds: 21.4 },
          { round, phase: "evaluate", seconds: 3.7 },
        ]
      : [
          { round, phase: "fit", seconds: 14 + (round % 3) },
          { round, phase: "evaluate", seconds: 3.6 },
          { round, phase: "commit", seconds: 0.04 },
        ],
  );

  await mkdir(directory, { recursive: true });
  const lines = (values: readonly unknown[]) => values.map((value) => `${JSON.stringify(value)}\n`).join("");
  await writeFile(join(directory, "run.json"), JSON.stringify(record, null, 2));
  await writeFile(join(directory, "metrics.jsonl"), lines(metrics.map((round) => snakeKeys(round))));
  await writeFile(join(directory, "timings.jsonl"), lines(timings));
}
