import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { chromium as driver } from "playwright-core";
import { loadRun } from "prelort";
import { packageRoot, trackerPython } from "../../../dist/installation.js";
import type { Context, Experiment } from "../experiment.ts";

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const ROUNDS = 2;

/** A run of the quickstart from the start of its process to its end, alone and watched from all sides. */
export const watched: Experiment = {
  name: "watched",
  needs: {
    what: "Chromium, and prelort setup --track tensorboard",
    isThere: () => existsSync(CHROMIUM) && existsSync(trackerPython("tensorboard")),
  },
  rows: [
    {
      name: "quickstart with its page open, TensorBoard and OpenTelemetry",
      unit: "s",
      ours: "watched",
      peer: "alone",
      target: { atMost: 1.03 },
    },
  ],
  async measure(context, repeat) {
    const arms = [
      ["alone", () => train(false, context)],
      ["watched", () => train(true, context)],
    ] as const;
    const told = new Map<string, { readonly seconds: number; readonly sha256: string }>();
    // Whatever the machine does in the meantime, no arm is always the first.
    for (let index = 0; index < arms.length; index++) {
      const [name, run] = arms[(index + repeat) % arms.length] as (typeof arms)[number];
      told.set(name, await run());
    }
    const digests = new Set([...told.values()].map(({ sha256 }) => sha256));
    if (digests.size > 1) throw new Error(`a run that is watched has other bytes than alone: ${[...digests].join(", ")}`);
    return Object.fromEntries([...told].map(([name, { seconds }]) => [name, seconds]));
  },
};

async function train(isWatched: boolean, { folder, signal }: Context) {
  const name = "watched";
  const set = [`rounds=${ROUNDS}`, `evaluate.every=${ROUNDS}`, `name=${name}`, `runs_dir=${JSON.stringify(folder)}`];
  if (isWatched) set.push("track=[tensorboard]");
  const telemetry = isWatched ? ["--import", path.join(import.meta.dirname, "..", "record-telemetry.js")] : [];
  const command = [path.join(packageRoot(), "dist", "cli", "main.js"), "run", path.join(packageRoot(), "configs", "quickstart.yaml")];
  const options = ["--overwrite", ...(isWatched ? ["--ui"] : []), ...set.flatMap((each) => ["--set", each])];
  const started = performance.now();
  const child = spawn(process.execPath, [...telemetry, ...command, ...options], { signal, stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  const browser = isWatched ? await driver.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] }) : undefined;
  try {
    for await (const line of createInterface({ input: child.stderr })) {
      const link = /http:\S+/.exec(line)?.[0];
      if (link !== undefined) await (await browser?.newPage())?.goto(link);
    }
    const [code] = (await ended) as [number | null];
    if (code !== 0) throw new Error(`prelort run ended with ${code}`);
    const seconds = (performance.now() - started) / 1000;
    for await (const event of (await loadRun(path.join(folder, name))).events())
      if (event.type === "run-end") return { seconds, sha256: event.sha256 };
    throw new Error("the run has not recorded its end");
  } finally {
    await browser?.close();
  }
}
