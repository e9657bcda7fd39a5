import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, inject } from "vitest";
import type { FederateOptions } from "../../src/index.ts";
import { listRanks, segmentWise, allClients } from "../../src/index.ts";
import { environmentPython, packageRoot } from "../../src/installation.ts";

export const python = environmentPython();
export const root = packageRoot();
export const cli = path.join(root, "dist/cli/main.js");

/** Path of the tiny seeded models and data that test/e2e/global-setup.ts makes once for all tests. */
export function tiny(...parts: string[]): string {
  return path.join(inject("tinyFolder"), ...parts);
}

/** A folder for one test file's runs, removed afterwards. */
export function temporaryFolder(): () => string {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), "prelort-e2e-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return () => folder;
}

/** Four clients of ranks 8, 4, 2, 1 on a Llama of a few thousand weights: real processes, seconds. */
export function tinyRun(runsDir: string, name: string): FederateOptions {
  return {
    name,
    runsDir,
    seed: 7,
    rounds: 2,
    model: { nameOrPath: tiny("tiny-llama"), task: "causal-lm" },
    lora: { r: 8, target_modules: ["q_proj", "v_proj"] },
    data: { path: tiny("words.jsonl"), prompt: "Define the noun {word} .", answer: "{gloss}", maxLength: 32, evalExamples: 24, clients: 4 },
    strategy: { selection: allClients(), rankAssignment: listRanks([8, 4, 2, 1]), aggregation: segmentWise() },
    fit: { localSteps: 4, batchSize: 4, lr: 0.01 },
    evaluate: { shardSize: 8, batchSize: 4 },
    workers: { count: 2 },
  };
}

export function readLines(...file: string[]): Record<string, unknown>[] {
  const text = readFileSync(path.join(...file), "utf8").trimEnd();
  return text.split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Keeps the first lines, as if the process that appends to the file had been killed. */
export function keepLines(file: string, count: number): void {
  const lines = readFileSync(file, "utf8").split("\n").slice(0, count);
  writeFileSync(file, lines.map((line) => `${line}\n`).join(""));
}

/** Command lines of the live workers that a controller process started; zombies do not count. */
export function workersOf(controllerPid: number): string[] {
  const listing = execFileSync("ps", ["-A", "-ww", "-o", "pid=,stat=,args="], { encoding: "utf8" });
  const parent = new RegExp(`worker.* --parent-pid[ =]${controllerPid}\\b`);
  return listing.split("\n").filter((line) => parent.test(line) && !/^\s*\d+\s+Z/.test(line));
}
