import { rm } from "node:fs/promises";
import path from "node:path";
import process from "node:process";
import { Command, Option } from "commander";
import { TRACKERS, type TrackerName } from "../config/track-section.ts";
import { cacheFolder } from "../installation.ts";
import { onInterrupt } from "./interrupt.ts";
import { setUpAsset } from "../setup/asset.ts";
import { setUpEnvironment } from "../setup/environment.ts";
import { setUpLanguageModels } from "../setup/language-models.ts";
import { SETUP_LOG } from "../setup/run-tool.ts";
import { sentenceEncoder } from "../setup/sentence-encoder.ts";
import { setupDisplay } from "./reporters/setup-display.ts";
import { setUpTracker } from "../setup/tracker-environment.ts";
import { smollm2 } from "../setup/smollm2.ts";
import { wordnetNouns } from "../setup/wordnet-nouns.ts";

interface SetupOptions {
  readonly quickstart: boolean;
  readonly languageModels: boolean;
  readonly smollm2: boolean;
  readonly track: readonly TrackerName[];
  readonly dev: boolean;
}

export function setupCommand(): Command {
  return new Command("setup")
    .description("create the workers' Python environment and fetch the quickstart's model and data")
    .option("--no-quickstart", "leave out the quickstart's model and data")
    .option("--language-models", "also pretrain two small language models for comparisons: 6 minutes on one core each", false)
    .option("--smollm2", "also fetch SmolLM2-135M-Instruct: 93 MB, 270 MB on disk", false)
    .addOption(
      new Option("--track <name...>", "also make the Python environment of a tracker, as `track` in a config needs")
        .choices(TRACKERS)
        .default([]),
    )
    .option("--dev", "also install what prelort's own tests need", false)
    .action(setUp);
}

async function setUp({ quickstart, languageModels, smollm2: wantsSmollm2, track, dev }: SetupOptions): Promise<void> {
  const display = setupDisplay({ stream: process.stderr });
  const interrupt = onInterrupt(display.say, "finished parts are kept");
  try {
    // If it cannot be removed, writing it fails and reports that.
    await rm(path.join(cacheFolder(), SETUP_LOG), { force: true }).catch(() => undefined);
    const context = { ...display, signal: interrupt.signal };
    await setUpEnvironment({ ...context, extras: dev ? ["test"] : [] });
    for (const name of new Set(track)) await setUpTracker(name, context);
    if (quickstart) for (const asset of [sentenceEncoder, wordnetNouns]) await setUpAsset(asset, context);
    if (wantsSmollm2) await setUpAsset(smollm2, context);
    if (languageModels) await setUpLanguageModels(context);
  } finally {
    display.close();
    interrupt.dispose();
  }
}
