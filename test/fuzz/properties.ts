import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";

/** Cases per property; `npm test` tries 100. */
const RUNS = 1000;

/** Runs the property tests of both languages on cases drawn from that seed, with their output on the terminal. */
export function runProperties(seed: number, python: string): boolean {
  const files = ["test/unit", "test/conformance"].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => path.join(folder, name)),
  );
  const properties = files.filter((name) => name.endsWith(".test.ts") && readFileSync(name, "utf8").includes('from "fast-check"'));
  const commands = [
    ["node_modules/.bin/vitest", "run", "--config", "test/vitest.config.ts", "--project", "unit", ...properties],
    [python, "-m", "pytest", "-m", "hypothesis", "--hypothesis-profile=fuzz", `--hypothesis-seed=${seed}`],
  ];
  const env = { ...process.env, PRELORT_PROPERTY_SEED: `${seed}`, PRELORT_PROPERTY_RUNS: `${RUNS}` };
  return commands.map(([file = "", ...args]) => spawnSync(file, args, { env, stdio: "inherit" }).status === 0).every(Boolean);
}
