import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import PQueue from "p-queue";
import { assetPaths } from "../config/assets.ts";
import { plural } from "../report/format.ts";
import { cacheFolder, environmentPython, programArguments } from "../installation.ts";
import { setUpAsset } from "./asset.ts";
import type { SetupContext } from "./context.ts";
import { runTool } from "./run-tool.ts";
import { addresses, brownCorpus, definitions, textFile } from "./text.ts";

const texts = [addresses, brownCorpus, definitions];
const models = [
  { name: "small-llama", architecture: "llama" },
  { name: "small-gpt2", architecture: "gpt2" },
] as const;

/** Torch threads of pretraining (workers/prelort_worker/pretrain.py). Another number would give different bytes. */
const THREADS = 2;

/** Pretrains those of the small language models that are missing, on text that it fetches. */
export async function setUpLanguageModels(context: SetupContext): Promise<void> {
  const { say } = context;
  const missing = models.filter(({ name }) => !existsSync(folderOf(name)));
  for (const { name } of models) if (existsSync(folderOf(name))) say(`model ${name}: already in ${folderOf(name)}`);
  if (missing.length === 0) return;
  for (const text of texts) await setUpAsset(text, context);
  const atOnce = Math.max(1, Math.floor(availableParallelism() / THREADS));
  const queue = new PQueue({ concurrency: atOnce });
  const names = missing.map(({ name }) => name).join(" and ");
  say(
    `pretraining ${names}: about 6 minutes of a processor core for each, on ${THREADS} threads each, ${plural(Math.min(atOnce, missing.length), "model")} at a time`,
  );
  const latest = new Map<string, string>();
  const made = missing.map((model) =>
    queue.add(async () => {
      const progress = (line: string) => {
        latest.set(model.name, line);
        context.progress([...latest].map(([name, last]) => `${name}: ${last}`).join("; "));
      };
      await pretrain(model, { ...context, progress }).finally(() => latest.delete(model.name));
      say(`model ${model.name}: set up in ${folderOf(model.name)}`);
    }),
  );
  // If one fails, the other is still pretrained.
  for (const result of await Promise.allSettled(made)) if (result.status === "rejected") throw result.reason;
}

function folderOf(name: (typeof models)[number]["name"]): string {
  return path.join(cacheFolder(), assetPaths[name]);
}

async function pretrain({ name, architecture }: (typeof models)[number], context: SetupContext): Promise<void> {
  const files = texts.map(({ folder }) => path.join(cacheFolder(), folder, textFile));
  await runTool(
    environmentPython(),
    [...programArguments("pretrain"), "--architecture", architecture, "--text", ...files, "--out", folderOf(name)],
    {
      ...context,
      log: `setup-${name}.log`,
      // Waiting threads sleep instead of spinning, which is twelve times slower when other processes use the cores.
      env: { OMP_WAIT_POLICY: "PASSIVE" },
      problem: `${name} could not be pretrained`,
      remedy: "solve the problem above, then npx prelort setup --language-models",
    },
  );
}
