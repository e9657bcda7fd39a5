import { appendFileSync, cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { buildRun, federate, type FederateOptions, loadConfig, type RunEvent, type Selection, verifyRun } from "../../src/index.ts";
import { python, keepLines, readLines, temporaryFolder, tiny, tinyRun } from "../support/e2e.ts";
import { faultyWorkers } from "../support/faulty-workers.ts";
import { command } from "../support/killed-command.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

const runs = temporaryFolder();
const { launcher, setFaults } = faultyWorkers(runs);
const pool = sharedWorkers({ workers: { count: 2, retries: 1, beatTimeout: 60 }, launcher });
const ROUNDS = 3;

/** Of every kind: what depends on the round, on the step, on chance, and on what a client received. */
const OPTIONS = {
  optimizer: { name: "adamw", weight_decay: 0.1 },
  lr_b_ratio: 2,
  lr_schedule: "cosine",
  min_lr: 1e-4,
  warmup_rounds: 1,
  warmup_steps: 1,
  label_smoothing: 0.1,
  neftune_alpha: 5,
  proximal_mu: 0.1,
};

/** The tiny run as a config file, with a server optimizer whose state resume must restore. */
function writeConfig(name: string): string {
  const { model, data, lora, fit, evaluate, seed } = tinyRun(runs(), name);
  const file = path.join(runs(), `${name}.yaml`);
  const config = {
    name,
    runs_dir: runs(),
    seed,
    rounds: ROUNDS,
    model: { name_or_path: model.nameOrPath, task: model.task },
    lora,
    data: {
      path: data.path,
      prompt: data.prompt,
      answer: data.answer,
      max_length: data.maxLength,
      eval_examples: data.evalExamples,
      clients: data.clients,
    },
    strategy: {
      selection: { name: "power-of-choice", fraction: 0.75, candidates: 4 },
      rank_assignment: { name: "self-pruning", ranks: [8, 4, 2, 1], penalty: 0.1 },
      aggregation: { name: "zero-pad-deltas" },
      server_optimizer: { name: "yogi" },
    },
    fit: { ...OPTIONS, local_steps: fit?.localSteps, batch_size: fit?.batchSize, lr: fit?.lr },
    evaluate: { shard_size: evaluate?.shardSize, batch_size: evaluate?.batchSize },
    workers: { count: 1, python },
    record_updates: true,
  };
  writeFileSync(file, stringify(config));
  return file;
}

/** Everything that must be reproduced: every round's files and the metrics. */
function bytesOf(name: string): Record<string, string> {
  const folder = path.join(runs(), name);
  const files = readdirSync(path.join(folder, "rounds"), { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith("safetensors"),
  );
  const parts = [...files.map((file) => path.join("rounds", file)), "metrics.jsonl", "adapters/r4/adapter_model.safetensors"];
  return Object.fromEntries(parts.map((part) => [part, readFileSync(path.join(folder, part)).toString("base64")]));
}

function damage(file: string): void {
  const content = readFileSync(file);
  writeFileSync(file, content.fill(1, content.length - 4));
}

let undisturbed: Record<string, string>;
beforeAll(async () => {
  expect((await command(["run", writeConfig("undisturbed"), "--set", "workers.count=2"])).code).toBe(0);
  undisturbed = bytesOf("undisturbed");
  expect(Object.keys(undisturbed)).toContain("rounds/2/server-state.safetensors");
});

describe("a resumed run ends with the bytes of an undisturbed run:", () => {
  beforeAll(async () => {
    await kill("reported", (event) => event.type === "client-fit" && event.round === 2);
    cpSync(path.join(runs(), "reported"), path.join(runs(), "damaged"), { recursive: true });
  });

  async function kill(name: string, isEnd: (event: RunEvent) => unknown): Promise<void> {
    expect((await command(["run", writeConfig(name)], isEnd)).code).toBeNull();
  }

  async function resume(name: string, { workers = 1, restored = 0 } = {}): Promise<void> {
    // A power cut may leave half a line.
    appendFileSync(path.join(runs(), name, "journal.jsonl"), '{"type":"commit","round":3,"sha');
    const resumed = await command(["resume", path.join(runs(), name), "--set", `workers.count=${workers}`]);
    expect([resumed.code, resumed.stderr]).toEqual([0, ""]);
    expect(bytesOf(name)).toEqual(undisturbed);
    const fits = readLines(runs(), name, "journal.jsonl").filter(({ type }) => type === "fit");
    expect(fits.filter((fit) => fit["is_restored"]).length).toBeGreaterThanOrEqual(restored);
    expect(fits.filter((fit) => !fit["is_restored"]).length).toBeLessThanOrEqual(ROUNDS * 3 + 2);
    expect((await verifyRun(path.join(runs(), name))).map(({ problems }) => problems)).toEqual([[], [], [], []]);
    expect(readdirSync(path.join(runs(), name)).filter((entry) => entry.startsWith("lock"))).toEqual([]);
  }

  test("killed in round 2 after a client has reported", () => resume("reported", { workers: 2, restored: 1 }));

  test.each<[string, (event: RunEvent) => unknown]>([
    ["killed before its data is ready", ({ type }) => type === "worker-ready"],
    ["killed while round 0 is evaluated", ({ type }) => type === "evaluation-start"],
    ["killed after the last round", (event) => event.type === "round-end" && event.round === ROUNDS],
  ])("%s", async (title, isEnd) => {
    const name = title.replaceAll(" ", "-");
    await kill(name, isEnd);
    await resume(name);
  });

  test("killed, and its last adapter damaged", async () => {
    damage(path.join(runs(), "damaged/rounds/1/global.safetensors"));
    const options = buildRun(await loadConfig(writeConfig("damaged")));
    await federate({ ...onPool(options, pool()), resume: true }).result;
    expect(bytesOf("damaged")).toEqual(undisturbed);
  });
});

describe("resume refuses before anything starts:", () => {
  test("a run that another process holds, another config, a folder without a run", async () => {
    const busy = federate({ ...onPool(tinyRun(runs(), "busy"), pool()), rounds: 1000 });
    for await (const event of busy) if (event.type === "round-start") break;
    const second = await command(["resume", path.join(runs(), "busy")]);
    await busy.stop();
    expect([second.code, second.stderr]).toEqual([2, expect.stringMatching(new RegExp(`\\bbusy\\b.*\\b${process.pid}\\b`))]);

    const other = await command(["resume", path.join(runs(), "undisturbed"), "--set", "seed=8", "--set", "fit.lr=1"]);
    expect(other.code).toBe(2);
    expect(other.stderr).toMatch(/^ {2}--set seed {2}.*\b7\b.*\b8\b.*\n {2}--set fit\.lr {2}.*\b0\.01\b.*\b1\b/m);

    const none = await command(["resume", path.join(runs(), "nothing")]);
    expect([none.code, none.stderr]).toEqual([2, expect.stringContaining(path.join(runs(), "nothing"))]);
  });

  test("data that changed since the run began", async () => {
    const data = path.join(runs(), "changing.jsonl");
    const lines = readFileSync(tiny("words.jsonl"), "utf8");
    writeFileSync(data, lines);
    const base = tinyRun(runs(), "changing");
    const options = { ...base, rounds: 1, data: { ...base.data, path: data } };
    await federate(onPool(options, pool())).result;
    rmSync(path.join(runs(), "changing/rounds/1"), { recursive: true });
    const journal = path.join(runs(), "changing/journal.jsonl");
    writeFileSync(journal, readFileSync(journal, "utf8").replace('{"type":"end"}\n', ""));
    writeFileSync(data, lines.replace("kind", "sort"));
    // A worker of its own: those of the pool have read the data.
    await expect(federate({ ...options, workers: { count: 1 }, resume: true }).result).rejects.toMatchObject({
      issues: [{ path: "data.path", message: expect.stringContaining("changing.jsonl") }],
    });
  });
});

test("resuming a finished run returns its result without starting a worker", async () => {
  const options = tinyRun(runs(), "ended");
  const { sha256, metrics, adapter } = await federate(onPool(options, pool())).result;
  const none = { launch: () => expect.unreachable("a worker was started") };
  const again = federate({ ...options, launcher: none, resume: true });
  const types: string[] = [];
  for await (const event of again) types.push(event.type);
  const result = await again.result;
  expect(types).toEqual(["run-start", "run-end"]);
  expect([result.sha256, result.metrics]).toEqual([sha256, metrics]);
  expect([...result.adapter.rows]).toEqual([...adapter.rows]);
});

test("verify names altered files and rounds that cannot be recomputed from their updates", async () => {
  const options = onPool(tinyRun(runs(), "verified"), pool());
  const { directory } = await federate({ ...options, recordUpdates: true }).result;
  expect(await verifyRun(directory)).toEqual(
    [0, 4, 4].map((updates, round) => ({ round, updates, isAdapterVerified: true, isKept: true, problems: [] })),
  );

  const update = path.join(directory, "updates/2/c01.safetensors");
  const altered = readFileSync(update);
  const other = readFileSync(path.join(directory, "updates/1/c01.safetensors"));
  writeFileSync(update, other);
  expect((await verifyRun(directory))[2]?.problems).toEqual([expect.stringMatching(/c01\.safetensors\b.*\bround 2\b/)]);
  writeFileSync(update, altered);
  const global = path.join(directory, "rounds/1/global.safetensors");
  damage(global);
  const problems = (await verifyRun(directory)).map((round) => round.problems.length);
  expect(problems).toEqual([0, 1, 1]);
});

test("a committed round's metrics are recorded even if the next round fails at once", async () => {
  const base = onPool(tinyRun(runs(), "failing"), pool());
  const selection: Selection = ({ round, clients }) => (round === 2 ? ["nobody"] : clients.map(({ id }) => id));
  await expect(federate({ ...base, strategy: { ...base.strategy, selection } }).result).rejects.toThrow('"nobody"');
  expect(readLines(runs(), "failing", "metrics.jsonl").map(({ round }) => round)).toEqual([0, 1]);
});

describe("a round closes", () => {
  const withFaults = (name: string, faults: object, options: Partial<FederateOptions>): FederateOptions => {
    setFaults(faults);
    return { ...onPool(tinyRun(runs(), name), pool()), ...options };
  };

  test.each<[string, FederateOptions["closing"]]>([
    ["with enough", { enough: 0.75 }],
    ["at its deadline, with a quorum", { quorum: 0.75, deadline: 0.1 }],
  ])("%s; late clients are recorded, and a resume repeats the round with the same clients", async (how, closing) => {
    const name = how.replaceAll(/\W+/g, "-");
    const options = withFaults(name, { fits: { c03: "endless" } }, { closing, rounds: 1 });
    const { sha256, directory, metrics } = await federate(options).result;
    expect(metrics[1]).toMatchObject({ reported: ["c00", "c01", "c02"], failed: [], late: ["c03"] });

    // As before the commit.
    const journal = path.join(directory, "journal.jsonl");
    const lines = readFileSync(journal, "utf8").split("\n");
    writeFileSync(journal, `${lines.slice(0, lines.findIndex((line) => line.includes('"close"')) + 1).join("\n")}\n`);
    keepLines(path.join(directory, "metrics.jsonl"), 1);
    setFaults({});
    const again = await federate({ ...options, resume: true }).result;
    expect(again.metrics).toEqual(metrics);
    expect(again.sha256).toBe(sha256);
  });

  test("with an error if no quorum can be reached, and can be resumed", async () => {
    const options = withFaults("quorum", { fits: { c00: "nan", c01: "nan" }, always: true }, { closing: { quorum: 0.75 } });
    await expect(federate(options).result).rejects.toThrow(/\bround 1\b.*\b2\b.*\b4\b.*closing\.quorum.*\b3\b[^]*\bc0[01]\b/);
    setFaults({});
    const { metrics } = await federate({ ...options, resume: true }).result;
    expect(metrics.map(({ failed }) => failed)).toEqual([[], [], []]);
  });

  test("without a client that crashes every worker, and neither the run nor its resume selects that client again", async () => {
    const options = withFaults("poison", { fits: { c02: "crash" }, always: true }, { rounds: 2 });
    const run = federate(options);
    const aside: RunEvent[] = [];
    for await (const event of run) if (event.type === "client-set-aside") aside.push(event);
    const { metrics } = await run.result;
    expect(aside).toMatchObject([{ round: 1, clientId: "c02", error: expect.stringContaining("SIGKILL") }]);
    expect(metrics.map(({ reported, failed }) => [reported.length, failed])).toEqual([
      [0, []],
      [3, ["c02"]],
      [3, []],
    ]);
    const journal = path.join(runs(), "poison/journal.jsonl");
    const lines = readFileSync(journal, "utf8").split("\n");
    writeFileSync(journal, `${lines.slice(0, lines.findIndex((line) => /"commit","round":1/.test(line)) + 1).join("\n")}\n`);
    keepLines(path.join(runs(), "poison/metrics.jsonl"), 2);
    expect((await federate({ ...options, resume: true }).result).metrics[2]).toMatchObject({ failed: [] });
    expect(existsSync(path.join(runs(), "poison/updates"))).toBe(false);
  });
});
