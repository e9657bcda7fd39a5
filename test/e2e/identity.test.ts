import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { execa } from "execa";
import { beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import type { RunEvent } from "../../src/index.ts";
import { cli, python, readLines, temporaryFolder, tiny, workersOf } from "../support/e2e.ts";
import { eventually } from "../support/patience.ts";

const folder = temporaryFolder();

/** A model, text files that a table names, and a custom task with a helper module: everything that may change. */
function writeCase(name: string, changes: object = {}): { readonly config: string; readonly file: (name: string) => string } {
  const root = path.join(folder(), name);
  mkdirSync(root);
  const file = (part: string) => path.join(root, part);
  cpSync(tiny("tiny-bert"), file("model"), { recursive: true });
  const topics = readLines(tiny("topics.jsonl")).slice(0, 60);
  for (const [index, { text }] of topics.entries()) writeFileSync(file(`${index}.txt`), String(text));
  writeFileSync(file("table.jsonl"), topics.map(({ topic }, index) => JSON.stringify({ page: file(`${index}.txt`), topic })).join("\n"));
  writeFileSync(
    file("pages.py"),
    "from prelort_worker.rows.row import Row\nfrom prelort_worker.tasks.sequence_classification import SequenceClassification\n" +
      "from reading import text_of\n\nclass Pages(SequenceClassification):\n    def encode(self, rows, data, progress):\n" +
      '        read = [Row(row.where, {**row.columns, "page": text_of(row)}) for row in rows]\n' +
      "        return super().encode(read, data, progress)\n",
  );
  writeFileSync(file("reading.py"), 'def text_of(row):\n    return open(row.columns["page"]).read()\n');
  const config = {
    name: "run",
    runs_dir: root,
    seed: 7,
    // More than finish before a test has reacted to an event.
    rounds: 1000,
    model: { name_or_path: file("model"), task: "pages:Pages" },
    lora: { r: 2, target_modules: ["query"] },
    data: { path: file("table.jsonl"), text: "{page}", label: "topic", max_length: 16, eval_examples: 8, clients: 2 },
    strategy: { selection: { name: "all" }, rank_assignment: { name: "list", ranks: [2, 1] }, aggregation: { name: "segment-wise" } },
    fit: { local_steps: 1, batch_size: 4, lr: 0.01 },
    workers: { count: 1, python, retries: 1 },
    ...changes,
  };
  writeFileSync(file("config.yaml"), stringify(config));
  return { config: file("config.yaml"), file };
}

interface Ended {
  readonly code: number | null;
  readonly stderr: string;
}

/** Runs the command line; `onEvent` may end it. */
async function command(
  args: readonly string[],
  onEvent: (event: RunEvent, kill: () => void, pid: number) => void,
  variables: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const env = { ...process.env, ...variables };
  const child = spawn(process.execPath, [cli, ...args, "--json"], { stdio: ["ignore", "pipe", "pipe"], env });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  createInterface({ input: child.stdout }).on("line", (line) =>
    onEvent(JSON.parse(line) as RunEvent, () => child.kill("SIGKILL"), child.pid ?? 0),
  );
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stderr };
}

/** Flips one bit of the last byte; size and modification time do not change. */
function alter(file: string): void {
  const content = readFileSync(file);
  const { atime, mtime } = statSync(file);
  writeFileSync(file, Buffer.concat([content.subarray(0, -1), Buffer.from([(content.at(-1) ?? 0) ^ 1])]));
  utimesSync(file, atime, mtime);
}

describe("a run whose model changed while it trained", () => {
  let file: ReturnType<typeof writeCase>["file"];
  let original: Buffer;
  let ended: Ended;
  beforeAll(async () => {
    const written = writeCase("changed");
    file = written.file;
    original = readFileSync(file("model/model.safetensors"));
    ended = await command(["run", written.config], (event, _, pid) => {
      if (event.type !== "round-start" || event.round !== 2) return;
      alter(file("model/model.safetensors"));
      const [worker] = workersOf(pid);
      process.kill(Number(worker?.trim().split(/\s+/)[0]), "SIGKILL");
    });
  });

  test("fails when its worker dies: the one that takes its place loads a different model and does not train", () => {
    expect(ended.code).not.toBe(0);
    expect(ended.stderr).toMatch(/\bw0\.\d\b.*\bw0\b.*\bmodel\.safetensors\b/);
    const fits = readLines(file("run/journal.jsonl")).filter(({ type }) => type === "fit");
    expect(fits.length).toBeGreaterThan(0);
    expect(fits.filter((fit) => fit["worker_id"] !== "w0")).toEqual([]);
  });

  test("is not resumed with a changed weight file, tokenizer, data file or helper module: each is named, before training starts", async () => {
    const record = JSON.parse(readFileSync(file("run/run.json"), "utf8")) as Record<string, object>;
    expect(record["model"]).toMatchObject({ commit: null, weights: { "model.safetensors": expect.stringMatching(/^[0-9a-f]{64}$/) } });
    expect(Object.keys(record["code"] ?? {})).toEqual(["pages.py", "reading.py"]);
    const journal = readFileSync(file("run/journal.jsonl"), "utf8");

    const cases: readonly [string, RegExp][] = [
      ["model/model.safetensors", /model\.name_or_path {2}.*\bmodel\.safetensors\b/],
      ["model/tokenizer.json", /model\.name_or_path {2}.*\btokenizer\.json\b/],
      ["7.txt", /data\.path {2}.*\b7\.txt\b/],
      ["reading.py", /model\.task {2}.*\breading\.py\b/],
    ];
    const originals = cases.map(([name], index) => (index === 0 ? original : readFileSync(file(name))));
    for (const [name] of cases.slice(1)) appendFileSync(file(name), name.endsWith(".py") ? "# other\n" : "\n");
    const types: string[] = [];
    const refused = await command(["resume", file("run")], ({ type }) => types.push(type));
    expect(refused.code).toBe(2);
    expect(refused.stderr.split("\n").filter((line) => line.startsWith("  "))).toHaveLength(cases.length);
    for (const [, reason] of cases) expect(refused.stderr).toMatch(reason);
    expect(types).not.toContain("round-start");
    expect(readFileSync(file("run/journal.jsonl"), "utf8")).toBe(journal);

    for (const [index, [name]] of cases.entries()) writeFileSync(file(name), originals[index] ?? "");
    const resumed = await command(["resume", file("run")], (event, kill) => event.type === "round-start" && kill(), {
      ATEN_CPU_CAPABILITY: "default",
    });
    expect([resumed.code, resumed.stderr]).toEqual([null, ""]);
    const noted = readLines(file("run/journal.jsonl")).find(({ type }) => type === "resume")?.["differences"];
    expect(noted).toContainEqual({ path: "variables.ATEN_CPU_CAPABILITY", is: "default" });
  });
});

test("a repeated plan starts no worker; a plan of another model, other data or another seed does", async () => {
  const { config, file } = writeCase("planned");
  const cache = file("cache");
  const logs = path.join(cache, "logs");
  const hasStarted = () =>
    existsSync(logs) && readdirSync(logs, { recursive: true, encoding: "utf8" }).some((name) => /\bw0\.log$/.test(name));
  const start = (...set: string[]) => {
    rmSync(logs, { recursive: true, force: true });
    const args = [cli, "plan", config, "--json", ...set.flatMap((assignment) => ["--set", assignment])];
    return execa(process.execPath, args, { reject: false, env: { PRELORT_CACHE: cache } });
  };
  const plan = async (...set: string[]) => {
    const { exitCode, stdout } = await start(...set);
    expect(exitCode).toBe(0);
    return { stdout, hasStarted: hasStarted() };
  };
  /** A worker has started; its answer is not waited for. */
  const expectStart = async (...set: string[]) => {
    const planning = start(...set);
    await eventually(() => expect(hasStarted()).toBe(true));
    planning.kill("SIGINT");
    expect((await planning).exitCode).toBe(130);
  };
  const first = await plan();
  expect(first.hasStarted).toBe(true);
  expect(await plan()).toEqual({ stdout: first.stdout, hasStarted: false });
  expect((await plan("fit.lr=1", "rounds=9")).hasStarted).toBe(false);
  await expectStart("seed=8");
  const model = readFileSync(file("model/model.safetensors"));
  alter(file("model/model.safetensors"));
  await expectStart();
  writeFileSync(file("model/model.safetensors"), model);
  expect((await plan()).hasStarted).toBe(false);
  appendFileSync(file("7.txt"), "\n");
  await expectStart();
});
