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

/** Torch threads of a pretraining (workers/prelort_worker/pretrain.py): another number would give other bytes. */
const THREADS = 2;

/** Pretrains the small language models that are not there yet, on text that is fetched for it. */
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
    `pretraining ${names}: about 6 minutes of a processor core each, on ${THREADS} threads each, ${plural(Math.min(atOnce, missing.length), "model")} at a time`,
  );
  const latest = new Map<string, string>();
  const made = missing.map((model) =>
    queue.add(async () => {
      const progress = (line: string) => {
        latest.set(model.name, line);
        context.progress([...latest].map(([name, last]) => `${name}: ${last}`).join("; "));
      };
      await pretrain(model, { ...context, progress }).finally(() => latest.delete(model.name));
      say(`model ${model.name}: made in ${folderOf(model.name)}`);
    }),
  );
  // Where one fails, the other is still made.
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
      // Threads that wait for each other sleep: where others want the cores too, turning costs twelve times the work.
      env: { OMP_WAIT_POLICY: "PASSIVE" },
      problem: `${name} could not be pretrained`,
      remedy: "npx prelort setup --language-models, once what is said above is mended",
    },
  );
}
