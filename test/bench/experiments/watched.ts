import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
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
      name: "quickstart with its page followed, TensorBoard and OpenTelemetry",
      unit: "s",
      ours: "followed",
      peer: "alone",
      target: { atMost: 1.03 },
    },
    { name: "the same, the page in a browser on the same cores", unit: "s", ours: "in a browser", peer: "alone" },
  ],
  async measure(context, repeat) {
    const arms = [
      ["alone", () => train(undefined, context)],
      ["followed", () => train(follow, context)],
      ["in a browser", () => train(browse, context)],
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

/** Opens the page at its link; what it returns closes it. */
type Viewer = (link: string) => Promise<() => Promise<void>>;

/** The stream of events that a browser follows, read by a program. */
const follow: Viewer = async (link) => {
  const page = await fetch(link, { redirect: "manual" });
  const headers = {
    cookie: page.headers
      .getSetCookie()
      .map((each) => each.split(";")[0])
      .join("; "),
  };
  const stream = new URL(`api/run/events?name=${NAME}&from=0`, new URL(".", link));
  const read = async () => {
    let answer = await fetch(stream, { headers });
    // The run's folder is not there yet.
    for (; answer.status === 404; answer = await fetch(stream, { headers })) await setTimeout(100);
    if (answer.status !== 200) throw new Error(`${stream.pathname} answered ${answer.status}`);
    let bytes = 0;
    try {
      for await (const { length } of answer.body ?? []) bytes += length;
    } catch (error) {
      // The page ends with its run, in the middle of the stream.
      if (bytes === 0) throw error;
    }
  };
  const reading = read();
  reading.catch(() => {});
  return () => reading;
};

const browse: Viewer = async (link) => {
  const browser = await driver.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  await (await browser.newPage()).goto(link);
  return () => browser.close();
};

const NAME = "watched";

/** A run from the start of its process to its end; with a viewer, with TensorBoard and an OpenTelemetry SDK too. */
async function train(viewer: Viewer | undefined, { folder, signal }: Context) {
  const set = [`rounds=${ROUNDS}`, `evaluate.every=${ROUNDS}`, `name=${NAME}`, `runs_dir=${JSON.stringify(folder)}`];
  if (viewer) set.push("track=[tensorboard]");
  const telemetry = viewer ? ["--import", path.join(import.meta.dirname, "..", "record-telemetry.js")] : [];
  const command = [path.join(packageRoot(), "dist", "cli", "main.js"), "run", path.join(packageRoot(), "configs", "quickstart.yaml")];
  const options = ["--overwrite", ...(viewer ? ["--ui"] : []), ...set.flatMap((each) => ["--set", each])];
  const started = performance.now();
  const child = spawn(process.execPath, [...telemetry, ...command, ...options], { signal, stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  let close: (() => Promise<void>) | undefined;
  try {
    for await (const line of createInterface({ input: child.stderr })) {
      const link = /http:\S+/.exec(line)?.[0];
      if (link !== undefined) close = await viewer?.(link);
    }
    const [code] = (await ended) as [number | null];
    if (code !== 0) throw new Error(`prelort run ended with ${code}`);
    const seconds = (performance.now() - started) / 1000;
    for await (const event of (await loadRun(path.join(folder, NAME))).events())
      if (event.type === "run-end") return { seconds, sha256: event.sha256 };
    throw new Error("the run has not recorded its end");
  } finally {
    await close?.();
  }
}
