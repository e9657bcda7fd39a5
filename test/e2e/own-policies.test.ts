import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { readDocument, snippets } from "../support/documents.ts";
import { cli, keepLines, readLines, root, temporaryFolder, tiny } from "../support/e2e.ts";

const folder = temporaryFolder();
const guide = readDocument("configs/README.md");

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function prelort(args: readonly string[], env: NodeJS.ProcessEnv = {}): Ended {
  return spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", cwd: folder(), env: { ...process.env, ...env } });
}

function write(name: string, text: string): string {
  const file = path.join(folder(), name);
  writeFileSync(file, text);
  return file;
}

const shaOf = (name: string) =>
  createHash("sha256")
    .update(readFileSync(path.join(folder(), name)))
    .digest("hex");
const recordOf = (run: string) => JSON.parse(readFileSync(path.join(folder(), "runs", run, "run.json"), "utf8")) as Record<string, unknown>;

const setting = () => `rounds: 2
model: { name_or_path: ${tiny("tiny-llama")}, task: causal-lm }
lora: { r: 4, tiers: [1, 2, 4], target_modules: [q_proj, v_proj] }
data:
  path: ${tiny("words.jsonl")}
  prompt: "Define the noun {word} ."
  answer: "{gloss}"
  max_length: 32
  eval_examples: 16
  clients: 3
fit: { objective: none, local_steps: 4, batch_size: 4, lr: 0.01 }
workers: { count: 1 }
`;

beforeAll(() => {
  // As if the package were installed there.
  mkdirSync(path.join(folder(), "node_modules"));
  symlinkSync(root, path.join(folder(), "node_modules", "prelort"));
});

describe("a newcomer's method, as configs/README.md has it,", () => {
  let first: Ended;
  const comparison = () => path.join(folder(), "slow-flexlora.yaml");
  // One process for all runs.
  const compareAll = (...more: readonly string[]) => ["compare", comparison(), "--side-by-side", "1", ...more];
  const starts = ({ stdout }: Ended) => [...stdout.matchAll(/started (\S+)/g)].map(([, name = ""]) => name).toSorted();

  beforeAll(() => {
    const [method = ""] = snippets(guide, "js");
    const yaml = snippets(guide, "yaml").find((code) => code.includes("slow.mjs")) ?? "";
    write("slow.mjs", method);
    write("my-run.yaml", `${setting()}strategy:\n  rank_assignment: { name: list, ranks: [4, 2, 1] }\n`);
    // Fewer runs, so that it takes less time.
    const fewer = yaml.replace("seeds: [1, 2, 3]", "seeds: [1, 2]").replace("rounds: 2, seed", "rounds: 1, seed");
    writeFileSync(comparison(), fewer.replace(/ {2}- \{ name: a fifth.*\n/, ""));
    first = prelort(compareAll());
  });

  test("goes through compare with a learning rate of its own, every seed, and paired differences", () => {
    expect(first.status, first.stderr).toBe(0);
    const lrs = ["flexlora", "slow"].flatMap((family) => [0.001, 0.003].map((lr) => `lr.${family}.${lr}`));
    const runs = ["flexlora", "half-kept"].flatMap((method) => [1, 2].map((seed) => `${method}.seed-${seed}`));
    expect(starts(first)).toEqual([...lrs, ...runs].toSorted());
    const { outcomes } = JSON.parse(readFileSync(path.join(folder(), "runs/slow-flexlora/compare.json"), "utf8")) as {
      outcomes: { method: string; seed: number; area: number }[];
    };
    const areas = outcomes.map(({ method, seed }) => `${method} ${seed}`);
    expect(areas.toSorted()).toEqual(["FlexLoRA", "half kept"].flatMap((method) => [`${method} 1`, `${method} 2`]).toSorted());
    expect(first.stdout).toMatch(/\| half kept \|/);
    const adapters = new Set(
      ["flexlora", "half-kept"].map(
        (method) => readLines(folder(), `runs/slow-flexlora/${method}.seed-1/journal.jsonl`).at(-2)?.["sha256"],
      ),
    );
    expect(adapters.size).toBe(2);
  });

  test("is in the record by its file, options and SHA-256", () => {
    const { config, policies, method, doubts } = recordOf("slow-flexlora/half-kept.seed-1");
    const module = `${path.join(folder(), "slow.mjs")}#slowFlexLora`;
    expect((config as { strategy: object }).strategy).toMatchObject({ aggregation: { module, keep: 0.5 } });
    expect(policies).toEqual({ aggregation: { "slow.mjs": shaOf("slow.mjs") } });
    expect((method as { name: string }).name).toMatch(/^slow\.mjs#slowFlexLora \+/);
    expect(doubts).toContainEqual(expect.stringContaining("strategy.aggregation"));
  });

  test("that has changed is not mixed with its earlier runs, which --overwrite makes again alone", () => {
    const before = shaOf("slow.mjs");
    writeFileSync(path.join(folder(), "slow.mjs"), `${readFileSync(path.join(folder(), "slow.mjs"), "utf8")}\n`);
    const refused = prelort(compareAll());
    expect(refused.status).toBe(2);
    expect(refused.stderr).toMatch(/slow\.seed|lr\.slow|half-kept/);
    expect(refused.stderr).toMatch(
      new RegExp(`slow\\.mjs has changed.*${before.slice(0, 12)}.*${shaOf("slow.mjs").slice(0, 12)}.*--overwrite`),
    );
    expect(starts(refused)).toEqual([]);
    const again = prelort(compareAll("--overwrite"));
    expect(again.status, again.stderr).toBe(0);
    const own = ["half-kept.seed-1", "half-kept.seed-2", "lr.slow.0.001", "lr.slow.0.003"];
    expect(starts(again)).toEqual(own);
  });
});

describe("a run with policies of one's own of every kind", () => {
  const POLICIES = `import { bufferUpdates, prefix } from "prelort";
import { half } from "./half.mjs";
export const firstTwo = ({ clients }) => clients.slice(0, 2).map(({ id }) => id);
export const ranks = ({ list }) => ({ index }) => list[index];
export const damped = {
  distribute: prefix,
  begin: (context) =>
    bufferUpdates(context, (updates) => {
      const rows = context.global.rows.slice();
      for (const { delta } of updates) delta.rows.forEach((value, index) => (rows[index] += half * value));
      return { rows, state: { rounds: Float32Array.of(context.round) } };
    }),
};
`;
  const strategy = `record_updates: true
strategy:
  selection: ./mine.mjs#firstTwo
  rank_assignment: { module: ./mine.mjs#ranks, list: [4, 2, 1] }
  aggregation: ./mine.mjs#damped
`;
  const run = () => path.join(folder(), "runs", "own");
  const last = () => readLines(run(), "journal.jsonl").findLast(({ type }) => type === "commit")?.["sha256"];
  const interrupt = () => {
    const lines = readLines(run(), "journal.jsonl");
    keepLines(path.join(run(), "journal.jsonl"), lines.findIndex(({ type, round }) => type === "commit" && round === 1) + 1);
    keepLines(path.join(run(), "metrics.jsonl"), 2);
  };
  let sha256: unknown;

  beforeAll(() => {
    write("mine.mjs", POLICIES);
    write("half.mjs", "export const half = 0.5;\n");
    const { status, stderr } = prelort(["run", write("own.yaml", `name: own\n${setting()}${strategy}`)]);
    expect(status, stderr).toBe(0);
    sha256 = last();
  });

  test("trains as they say, and its plan shows the same", () => {
    const reported = readLines(run(), "metrics.jsonl").at(-1) as { coverage: { clients: number }[] };
    expect(reported.coverage.map(({ clients }) => clients)).toEqual([2, 2, 1]);
    const { status, stdout, stderr } = prelort(["plan", path.join(folder(), "own.yaml"), "--json"]);
    expect(status, stderr).toBe(0);
    const { clients } = JSON.parse(stdout) as { clients: { r: number; rounds: number[] }[] };
    expect(clients.map(({ r, rounds }) => [r, rounds.length])).toEqual([
      [4, 2],
      [2, 2],
      [1, 0],
    ]);
  });

  test("is verified from its recorded updates, evaluated, exported, and resumed to the same bytes", () => {
    const verified = prelort(["verify", run()]);
    expect(verified.status, verified.stderr).toBe(0);
    expect(verified.stdout).toMatch(/recomputed to the same bytes: the start and 2 of 2 rounds/);
    expect(prelort(["evaluate", run(), "--json"]).status).toBe(0);
    expect(prelort(["export", run(), "--r", "2", "--out", "exported"]).status).toBe(0);
    interrupt();
    const resumed = prelort(["resume", run()]);
    expect(resumed.status, resumed.stderr).toBe(0);
    expect(last()).toBe(sha256);
  });

  test("runs no code that only its record names, until it is named", () => {
    const elsewhere = { PRELORT_CACHE: path.join(folder(), "other-cache") };
    const refused = prelort(["verify", run()], elsewhere);
    expect(refused.status).toBe(2);
    const module = path.join(folder(), "mine.mjs");
    expect(refused.stderr).toContain(`--set strategy.aggregation=${module}#damped`);
    expect(refused.stderr).toContain(`--set strategy.rank_assignment.module=${module}#ranks`);
    const named = ["selection=./mine.mjs#firstTwo", "rank_assignment.module=./mine.mjs#ranks", "aggregation=./mine.mjs#damped"];
    const trusted = prelort(["verify", run(), ...named.flatMap((each) => ["--set", `strategy.${each}`])], elsewhere);
    expect(trusted.status, trusted.stderr).toBe(0);
    // An adapter needs no code to be exported.
    const exported = prelort(["export", run(), "--r", "1", "--out", "exported-elsewhere"], elsewhere);
    expect(exported.status, exported.stderr).toBe(0);
  });

  test("is neither resumed nor verified if a file has changed that its policy imports", () => {
    const before = shaOf("half.mjs");
    write("half.mjs", "export const half = 0.25;\n");
    interrupt();
    for (const command of ["resume", "verify"]) {
      const { status, stderr } = prelort([command, run()]);
      expect(status).toBe(2);
      expect(stderr).toMatch(/strategy\.aggregation.*half\.mjs has changed/);
      expect(stderr).toContain(`expected "${before.slice(0, 12)}`.replace('"', ""));
      expect(stderr).toContain(shaOf("half.mjs").slice(0, 12));
    }
    expect(readdirSync(path.join(run(), "rounds"))).toContain("2");
    write("half.mjs", "export const half = 0.5;\n");
  });

  test("is resumed from where its file was moved, which --set names", () => {
    mkdirSync(path.join(folder(), "moved"));
    for (const name of ["mine.mjs", "half.mjs"]) renameSync(path.join(folder(), name), path.join(folder(), "moved", name));
    const missing = prelort(["resume", run()]);
    expect(missing.status).toBe(2);
    expect(missing.stderr).toMatch(/strategy\.aggregation.*no such file/);
    const named = ["selection=moved/mine.mjs#firstTwo", "rank_assignment.module=moved/mine.mjs#ranks", "aggregation=moved/mine.mjs#damped"];
    const resumed = prelort(["resume", run(), ...named.flatMap((each) => ["--set", `strategy.${each}`])]);
    expect(resumed.status, resumed.stderr).toBe(0);
    expect(last()).toBe(sha256);
  });
});

test("Node's own errors about a policy's file are told at file:line:col of the config", () => {
  write("syntax.mjs", "\nexport const = 3;\n");
  write("lacks.mjs", 'import "./missing.mjs";\n');
  const strategy = "strategy:\n  selection: ./syntax.mjs#a\n  rank_assignment: ./lacks.mjs#a\n";
  const file = write("bad.yaml", `${setting()}${strategy}`);
  const { status, stderr } = prelort(["plan", file]);
  expect(status).toBe(2);
  expect(stderr).toMatch(/bad\.yaml:14:14 .*strategy\.selection: \.\/syntax\.mjs cannot be loaded: SyntaxError.*node --check/);
  expect(stderr).toMatch(/bad\.yaml:15:20 .*strategy\.rank_assignment: \.\/lacks\.mjs cannot be loaded: .*missing\.mjs/);
});
