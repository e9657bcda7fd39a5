import { expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { generatesText } from "../../../src/config/best-metric.ts";
import type { BestSpec } from "../../../src/config/best-section.ts";
import { validateRun } from "../../../src/config/build.ts";
import { allClients, listRanks, segmentWise } from "../../../src/index.ts";
import { evaluateRound } from "../../../src/server/evaluate.ts";
import type { Task, WorkerPool } from "../../../src/workers/task.ts";
import { clientsOf } from "../../../src/testing/index.ts";

const layout = createLayout({ r: 2, tiers: [1, 2], scale: 1 }, { modules: [{ name: "m", in: 2, out: 2 }], dense: [] });
const config = validateRun({
  rounds: 3,
  model: { nameOrPath: "m", task: "causal-lm" },
  lora: { r: 2, tiers: [1, 2], target_modules: ["m"] },
  data: { path: "d", prompt: "{a}", answer: "{b}", clients: 1 },
  strategy: { selection: allClients(), rankAssignment: listRanks([2]), aggregation: segmentWise() },
  evaluate: { shardSize: 4, maxNewTokens: 16, samples: 3 },
});
const adapter = { r: 2, rows: new Float32Array(8), dense: new Float32Array(0) };

/** Evaluates a round on 6 examples held out from all clients and 2 of the client's own, each with a ROUGE-L of 0.5. */
async function evaluate(round: number, best?: BestSpec) {
  const asked: { examples: string; tokens: number; samples: number }[] = [];
  const pool = {
    run({ request }: Task<"evaluate">) {
      const { examples, ranks, count, max_new_tokens: tokens, samples } = request;
      asked.push({ examples, tokens, samples });
      const sums = {
        loss_sum: count,
        n_tokens: count,
        n_examples: count,
        labels: null,
        rouge_l_sum: tokens > 0 ? count / 2 : null,
        metrics: {},
      };
      const told = Array.from({ length: samples }, (_, index) => ({
        prompt: `p${index}`,
        reference: `t${index}`,
        answers: ranks.map((r) => `a${index} at ${r}`),
      }));
      return Promise.resolve({ message: { tiers: ranks.map((r) => ({ r, ...sums })), samples: told } });
    },
  } as unknown as WorkerPool;
  const clients = clientsOf([{ r: 2 }]);
  const ownExamples = Uint32Array.from(clients, () => 2);
  const metrics = await evaluateRound(
    { config, pool, layout, isLanguage: true, evalExamples: 6, ownExamples },
    round,
    { global: adapter, presented: adapter, generates: generatesText({ ...config, evaluate: { ...config.evaluate, best } }, round) },
    clients,
  );
  return { asked, rougeL: metrics.byTier.map((tier) => tier.rougeL), samples: metrics.samples };
}

test("answers are generated only before the first and after the last round, on the examples held out from all clients", async () => {
  const own = { examples: "client", tokens: 0, samples: 0 };
  // Of the first shard of four examples alone.
  const generating = [3, 0].map((samples) => ({ examples: "global", tokens: 16, samples }));
  const samples = [0, 1, 2].map((index) => ({
    prompt: `p${index}`,
    reference: `t${index}`,
    answers: [1, 2].map((r) => ({ r, text: `a${index} at ${r}` })),
  }));
  for (const round of [0, 3]) expect(await evaluate(round)).toEqual({ asked: [...generating, own], rougeL: [0.5, 0.5], samples });
  const silent = { examples: "global", tokens: 0, samples: 0 };
  for (const round of [1, 2])
    expect(await evaluate(round)).toEqual({ asked: [silent, silent, own], rougeL: [null, null], samples: undefined });
});

test("answers are generated at every evaluation if the best round depends on them", async () => {
  const generating = [3, 0].map((samples) => ({ examples: "global", tokens: 16, samples }));
  const own = { examples: "client", tokens: 0, samples: 0 };
  for (const best of [
    { metric: "rouge_l", at: "area" },
    { metric: "mine", at: 1, mode: "max" },
  ] as const)
    expect(await evaluate(1, best)).toMatchObject({ asked: [...generating, own], rougeL: [0.5, 0.5] });
  expect((await evaluate(1, { metric: "loss", at: "area" })).rougeL).toEqual([null, null]);
});
