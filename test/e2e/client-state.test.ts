import { cpSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { buildRun, federate, type FederateOptions, loadConfig, RunFailedError, type RunEvent, verifyRun } from "../../src/index.ts";
import { python, readLines, temporaryFolder, tiny, tinyRun } from "../support/e2e.ts";
import { command } from "../support/killed-command.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

const runs = temporaryFolder();
const pool = sharedWorkers({ workers: { count: 2 } });
const ROUNDS = 3;
const inRun = (name: string, ...parts: string[]) => path.join(runs(), name, ...parts);

/** Three of the four clients train in a round, so that a state may be older than one round. */
function writeConfig(name: string, fit: object = { client_state: "keep" }): string {
  const file = path.join(runs(), `${name}.yaml`);
  const config = {
    name,
    runs_dir: runs(),
    seed: 7,
    rounds: ROUNDS,
    model: { name_or_path: tiny("tiny-bert"), task: "sequence-classification" },
    lora: { r: 8, target_modules: ["query", "value"] },
    data: { path: tiny("topics.jsonl"), text: "{text}", label: "topic", max_length: 32, eval_examples: 24, clients: 4 },
    strategy: {
      selection: { name: "random", fraction: 0.75 },
      rank_assignment: { name: "list", ranks: [8, 4, 2, 1] },
      aggregation: { name: "segment-wise" },
    },
    fit: { local_steps: 3, batch_size: 4, lr: 0.01, ...fit },
    evaluate: { shard_size: 8, batch_size: 4 },
    workers: { count: 1, python },
    record_updates: true,
  };
  writeFileSync(file, stringify(config));
  return file;
}

/** Trains on the shared workers. */
async function run(
  name: string,
  { fit, resume }: { readonly fit?: object; readonly resume?: boolean } = {},
): Promise<Record<string, string>> {
  const options = buildRun(await loadConfig(writeConfig(name, fit)));
  await federate({ ...onPool(options, pool()), ...(resume && { resume }) }).result;
  return bytesOf(name);
}

/** Every round's adapter and the metrics. */
function bytesOf(name: string): Record<string, string> {
  const rounds = readdirSync(inRun(name, "rounds")).toSorted();
  const parts = [...rounds.map((round) => path.join("rounds", round, "global.safetensors")), "metrics.jsonl"];
  return Object.fromEntries(parts.map((part) => [part, readFileSync(inRun(name, part)).toString("base64")]));
}

function states(name: string): readonly string[] {
  const folder = inRun(name, "client-states");
  if (!existsSync(folder)) return [];
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return files.filter((file) => file.endsWith(".safetensors")).map((file) => path.join(folder, file));
}

let undisturbed: Record<string, string>;
beforeAll(async () => {
  undisturbed = await run("undisturbed");
});

test("a run that keeps its clients' optimizers differs from the second round on, has the same bytes with one worker, and can be verified", async () => {
  const { code, stderr } = await command(["run", writeConfig("one-worker")]);
  expect([code, stderr]).toEqual([0, ""]);
  expect(bytesOf("one-worker")).toEqual(undisturbed);
  const anew = await run("anew", { fit: {} });
  const differs = [0, 1, 2, 3]
    .map((round) => path.join("rounds", `${round}`, "global.safetensors"))
    .map((file) => anew[file] !== undisturbed[file]);
  expect(differs).toEqual([false, false, true, true]);
  expect(states("undisturbed")).toEqual([]);
  const verified = await verifyRun(inRun("undisturbed"));
  expect(verified.map(({ updates, problems }) => [updates, problems])).toEqual([[0, []], ...Array.from({ length: ROUNDS }, () => [3, []])]);
});

test("the state of another optimizer travels too, beside rounded updates", async () => {
  const base = onPool(tinyRun(runs(), "adafactor"), pool());
  const options = { ...base, rounds: 2, wire: { update: "int8", downlink: "bf16" } } satisfies FederateOptions;
  const fit = { ...options.fit, optimizer: "adafactor" as const, lr: 0.01 };
  const kept = await federate({ ...options, fit: { ...fit, clientState: "keep" } }).result;
  const anew = await federate({ ...options, name: "adafactor-anew", fit }).result;
  expect(kept.sha256).not.toBe(anew.sha256);
});

describe("a run killed in round 3 after two clients have reported", () => {
  beforeAll(async () => {
    const isEnd = seen(2, (event) => event.type === "client-fit" && event.round === 3);
    expect((await command(["run", writeConfig("killed")], isEnd)).code).toBeNull();
    expect(states("killed").length).toBeGreaterThanOrEqual(3);
    cpSync(inRun("killed"), inRun("half-spooled"), { recursive: true });
  });
  const fitsOf = (name: string) => readLines(inRun(name, "journal.jsonl")).filter(({ type }) => type === "fit");

  test("is resumed to the bytes of an undisturbed run", async () => {
    const resumed = await command(["resume", inRun("killed")]);
    expect([resumed.code, resumed.stderr]).toEqual([0, ""]);
    expect(bytesOf("killed")).toEqual(undisturbed);
    expect(fitsOf("killed").filter((fit) => fit["is_restored"]).length).toBeGreaterThanOrEqual(2);
    expect(states("killed")).toEqual([]);
  });

  test("is resumed to them though a state of the interrupted round is damaged: its client trains again", async () => {
    const spooled = fitsOf("half-spooled").length;
    for (const file of statesAfter(3, "half-spooled")) damage(file);
    expect(await run("half-spooled", { resume: true })).toEqual(undisturbed);
    expect(
      fitsOf("half-spooled")
        .slice(spooled)
        .map((fit) => fit["is_restored"]),
    ).toEqual([false, false, false]);
  });
});

describe("a run killed as round 3 starts", () => {
  beforeAll(async () => {
    const isEnd = (event: RunEvent) => event.type === "round-start" && event.round === 3;
    expect((await command(["run", writeConfig("damaged")], isEnd)).code).toBeNull();
    expect(states("damaged").length).toBeGreaterThanOrEqual(3);
    cpSync(inRun("damaged"), inRun("gone-back"), { recursive: true });
  });

  test("is not resumed with a new optimizer where a client's state is damaged or missing: the error names its file", async () => {
    const [first = "", ...others] = statesAfter(2, "damaged");
    expect(others.length).toBe(2);
    renameSync(first, `${first}.aside`);
    const missing = await refusalOf("damaged");
    expect(missing).toContain(`${first}: expected the state of client`);
    renameSync(`${first}.aside`, first);
    const whole = new Map(states("damaged").map((file) => [file, readFileSync(file)]));
    for (const file of whole.keys()) damage(file);
    const damaged = await refusalOf("damaged");
    expect([...whole.keys()].some((file) => damaged.includes(`${file}: expected its checksum`))).toBe(true);
    for (const [file, content] of whole) writeFileSync(file, content);
    expect(await run("damaged", { resume: true })).toEqual(undisturbed);
    expect(states("damaged")).toEqual([]);
  });

  test("cannot go back from a damaged last adapter to a round whose states are gone, and says so", async () => {
    damage(inRun("gone-back", "rounds/2/global.safetensors"));
    expect(await refusalOf("gone-back")).toMatch(
      /client-states.1.\S+\.safetensors: expected the state of client \S+ optimizer after round 1, got no such file/,
    );
  });
});

async function refusalOf(name: string): Promise<string> {
  const error: unknown = await run(name, { resume: true }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(RunFailedError);
  return (error as RunFailedError).message;
}

function statesAfter(round: number, name: string): readonly string[] {
  return states(name).filter((file) => file.includes(`${path.sep}${round}${path.sep}`));
}

function damage(file: string): void {
  const content = readFileSync(file);
  writeFileSync(file, content.fill(1, content.length - 4));
}

/** Holds at the event that is the n-th for which `is` holds. */
function seen(n: number, is: (event: RunEvent) => unknown): (event: RunEvent) => boolean {
  let count = 0;
  return (event) => (is(event) ? ++count >= n : false);
}
