import { existsSync } from "node:fs";
import path from "node:path";
import { assetPaths } from "../../config/assets.ts";
import { cacheFolder, environmentPython, programArguments } from "../../workers/python.ts";
import { setUpAsset } from "./asset.ts";
import type { SetupContext } from "./context.ts";
import { runTool } from "./run-tool.ts";
import { addresses, brownCorpus, definitions, textFile } from "./text.ts";

const texts = [addresses, brownCorpus, definitions];
const models = [
  { name: "small-llama", architecture: "llama" },
  { name: "small-gpt2", architecture: "gpt2" },
] as const;

/** Pretrains the small language models that are not there yet, on text that is fetched for it. */
export async function setUpLanguageModels(context: SetupContext): Promise<void> {
  const { say, signal } = context;
  for (const { name, architecture } of models) {
    const target = path.join(cacheFolder(), assetPaths[name]);
    if (existsSync(target)) {
      say(`model ${name}: already in ${target}`);
      continue;
    }
    for (const text of texts) await setUpAsset(text, context);
    say(`model ${name}: pretraining it, which takes minutes`);
    const files = texts.map(({ folder }) => path.join(cacheFolder(), folder, textFile));
    await runTool(
      environmentPython(),
      [...programArguments("pretrain"), "--architecture", architecture, "--text", ...files, "--out", target],
      {
        signal,
        problem: `${name} could not be pretrained`,
        remedy: "npx prelort setup --language-models, once what is said above is mended",
      },
    );
    say(`model ${name}: made in ${target}`);
  }
}
