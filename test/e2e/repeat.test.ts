import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { federate, type FederateOptions, processLauncher, randomSelection, type WorkerLauncher } from "../../src/index.ts";
import { python, temporaryFolder, tinyRun } from "../support/e2e.ts";

const runs = temporaryFolder();

async function bytesOf(
  name: string,
  count: number,
  { launcher, partialSums }: Pick<FederateOptions, "launcher" | "partialSums"> = {},
): Promise<{ sha256: string; metrics: string }> {
  const base = tinyRun(runs(), name);
  const strategy = { ...base.strategy, selection: randomSelection({ fraction: 0.75 }) };
  const { sha256, directory } = await federate({ ...base, strategy, workers: { count }, launcher, partialSums }).result;
  return { sha256, metrics: readFileSync(path.join(directory, "metrics.jsonl"), "utf8") };
}

test("one seed gives the same bytes with one worker, with two, and when repeated with partial sums", async () => {
  const two = await bytesOf("two", 2);
  expect(await bytesOf("two-again", 2, { partialSums: { every: 2, encoding: "f64" } })).toEqual(two);
  expect(await bytesOf("one", 1)).toEqual(two);
});

test("tensors sent through the socket instead of shared memory give the same bytes", async () => {
  const local = processLauncher({ command: python });
  const remote: WorkerLauncher = { launch: (options) => ({ ...local.launch(options), pid: undefined }) };
  expect(await bytesOf("through-the-socket", 2, { launcher: remote })).toEqual(await bytesOf("through-memory", 2));
});
