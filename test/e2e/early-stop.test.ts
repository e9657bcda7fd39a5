import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { execa } from "execa";
import { beforeAll, describe, expect, test } from "vitest";
import { type BestRound, type EarlyStop, federate, type FederateOptions, verifyRun } from "../../src/index.ts";
import { echo, tinyLauncher, tinyRun } from "../../src/testing/index.ts";
import { cli, root, temporaryFolder, tinyRun as tinyLlamaRun } from "../support/e2e.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

const runs = temporaryFolder();
const pool = sharedWorkers();
/** Later rounds are as good, but not better. */
const LAST_LEARNING = 3;
const STOPPING = { rounds: 9, seed: 7, evaluate: { best: { metric: "loss" } }, stopWhen: { patience: 2 } } as const;
const script = path.join(root, "test/fixtures/stopping-controller.mjs");

type Changes = Pick<FederateOptions, "keepRounds" | "resume">;

interface Made {
  readonly sha256: string;
  readonly best: BestRound | undefined;
  readonly stopped: EarlyStop | undefined;
  /** Rounds in which clients were asked to train. */
  readonly trained: readonly number[];
}

/** Runs until it stops. */
async function control(name: string, changes: Changes): Promise<Made> {
  // As in the fixture.
  const launcher = tinyLauncher({ fit: (fit) => (fit.round > LAST_LEARNING ? echo(fit) : fit.train()) });
  const run = federate(tinyRun({ runsDir: runs(), name, ...STOPPING, ...changes, launcher }));
  const trained = new Set<number>();
  for await (const event of run) if (event.type === "round-start") trained.add(event.round);
  const { sha256, best, stopped } = await run.result;
  return { sha256, best, stopped, trained: [...trained] };
}

/** Runs in a process of its own, which is killed at that point. */
async function killAt(name: string, changes: Changes, point: object): Promise<void> {
  const options = { runsDir: runs(), name, ...STOPPING, ...changes };
  const given = JSON.stringify({ options, lastLearning: LAST_LEARNING, killAt: point });
  const { stderr, signal } = await execa(process.execPath, [script, given], { reject: false });
  expect([signal, stderr]).toEqual(["SIGKILL", ""]);
}

/** SHA-256 of everything that a killed and resumed run must have in common with one that nobody disturbed. */
function hashes(name: string): Record<string, string> {
  const folder = path.join(runs(), name);
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => /safetensors$|^metrics\.jsonl$/.test(file));
  return Object.fromEntries(
    files.map((file) => [
      file,
      createHash("sha256")
        .update(readFileSync(path.join(folder, file)))
        .digest("hex"),
    ]),
  );
}

describe.each([["all"], ["best"], [1]] as const)(
  "with keep_rounds %s, a killed run that is resumed stops in the same round with the same bytes:",
  (keepRounds) => {
    let undisturbed: { readonly made: Made; readonly hashes: Record<string, string> };
    beforeAll(async () => {
      const made = await control(`whole-${keepRounds}`, { keepRounds });
      undisturbed = { made, hashes: hashes(`whole-${keepRounds}`) };
      expect(made).toMatchObject({ stopped: { round: 5, reason: "patience" }, best: { round: 3 } });
      expect(Object.keys(undisturbed.hashes)).toContain("adapters/best/r4/adapter_model.safetensors");
    });

    const points: readonly (readonly [string, object])[] = [
      ["killed while its last round is evaluated", { event: "evaluation-start", round: 5 }],
      ["killed once its last round is evaluated", { event: "round-end", round: 5 }],
      ["killed once it is to stop", { event: "early-stop" }],
      ["killed while the adapters are saved", { event: "phase-start", phase: "save" }],
      ...(keepRounds === "all" ? [] : [["killed in the middle of removing a round", { removal: 2 }] as const]),
    ];
    test.each(points)("%s", async (called, point) => {
      const name = `${called.replaceAll(" ", "-")}-${keepRounds}`;
      await killAt(name, { keepRounds }, point);
      const resumed = await control(name, { keepRounds, resume: true });
      const { sha256, best, stopped } = undisturbed.made;
      expect(resumed).toMatchObject({ sha256, best, stopped });
      expect(Math.max(0, ...resumed.trained)).toBeLessThanOrEqual(5);
      expect(hashes(name)).toEqual(undisturbed.hashes);
      expect((await verifyRun(path.join(runs(), name))).flatMap(({ problems }) => problems)).toEqual([]);
      // Resumed after its end, it trains nothing either.
      expect(await control(name, { keepRounds, resume: true })).toEqual({ sha256, best, stopped, trained: [] });
      expect(hashes(name)).toEqual(undisturbed.hashes);
    });
  },
);

describe("a language model's run that stops early", () => {
  const run = (name: string, best: { readonly metric: string }, target: number) => {
    const options = onPool(tinyLlamaRun(runs(), name), pool());
    const evaluate = { ...options.evaluate, maxNewTokens: 4, best };
    return federate({ ...options, rounds: 3, evaluate, stopWhen: { target } }).result;
  };

  test("generates text in its last round, though that was not known before", async () => {
    const { metrics, stopped } = await run("text", { metric: "perplexity" }, 1e9);
    expect(stopped).toEqual({ round: 1, reason: "target" });
    expect(metrics.map(({ byTier }) => byTier.map(({ rougeL }) => typeof rougeL))).toEqual(Array(2).fill(Array(4).fill("number")));
  });

  test("is evaluated and asked after its best round by the command line as it was during the run", async () => {
    // Nothing reaches it, so that text is generated in each of three rounds.
    const { metrics, best, stopped, directory } = await run("best", { metric: "rouge_l" }, 2);
    expect([stopped, metrics.length]).toEqual([undefined, 4]);
    expect(metrics.every(({ byTier }) => byTier.every(({ rougeL }) => rougeL !== null))).toBe(true);
    const command = async (verb: string, ...args: string[]) =>
      (await execa(process.execPath, [cli, verb, directory, ...args, "--round", "best", "--json"])).stdout;
    const { byTier } = JSON.parse(await command("evaluate")) as Pick<(typeof metrics)[number], "byTier">;
    expect(byTier).toEqual(metrics[best?.round ?? -1]?.byTier);
    const answers = await command("generate", "Define the noun cat .", "--raw", "--r", "4", "--max-new-tokens", "2");
    expect(
      answers
        .split("\n")
        .map((line) => JSON.parse(line) as object)
        .at(-1),
    ).toMatchObject({ r: 4 });
  });
});
