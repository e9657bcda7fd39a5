import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { federate, type FederateOptions, type RunEvent, verifyRun } from "../../src/index.ts";
import { python, readLines, temporaryFolder, tiny, tinyRun } from "../support/e2e.ts";
import { command } from "../support/killed-command.ts";

const runs = temporaryFolder();
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
    workers: { count: 2, python },
    record_updates: true,
  };
  writeFileSync(file, stringify(config));
  return file;
}

async function run(name: string, fit: object, ...args: string[]): Promise<Record<string, string>> {
  const { code, stderr } = await command(["run", writeConfig(name, fit), ...args]);
  expect([code, stderr]).toEqual([0, ""]);
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

const atRound = (round: number) => (event: RunEvent) => event.type === "round-start" && event.round === round;

let undisturbed: Record<string, string>;
beforeAll(async () => {
  undisturbed = await run("undisturbed", { client_state: "keep" });
});

test("a run that keeps its clients' optimizers differs from the second round on, has the same bytes with one worker, and can be verified", async () => {
  expect(await run("one-worker", { client_state: "keep" }, "--set", "workers.count=1")).toEqual(undisturbed);
  const anew = await run("anew", {});
  const differs = [0, 1, 2, 3]
    .map((round) => path.join("rounds", `${round}`, "global.safetensors"))
    .map((file) => anew[file] !== undisturbed[file]);
  expect(differs).toEqual([false, false, true, true]);
  expect(states("undisturbed")).toEqual([]);
  const verified = await verifyRun(inRun("undisturbed"));
  expect(verified.map(({ updates, problems }) => [updates, problems])).toEqual([[0, []], ...Array.from({ length: ROUNDS }, () => [3, []])]);
});

test("the state of another optimizer travels too, beside rounded updates", async () => {
  const options = { ...tinyRun(runs(), "adafactor"), rounds: 2, wire: { update: "int8", downlink: "bf16" } } satisfies FederateOptions;
  const fit = { ...options.fit, optimizer: "adafactor" as const, lr: 0.01 };
  const kept = await federate({ ...options, fit: { ...fit, clientState: "keep" } }).result;
  const anew = await federate({ ...options, name: "adafactor-anew", fit }).result;
  expect(kept.sha256).not.toBe(anew.sha256);
});

describe("a resumed run ends with the bytes of an undisturbed run:", () => {
  test.each<[string, (event: RunEvent) => unknown, number]>([
    ["killed in round 3 after two clients have reported", seen(2, (event) => event.type === "client-fit" && event.round === 3), 2],
    ["killed as round 3 starts", atRound(3), 0],
  ])("%s", async (title, isEnd, restored) => {
    const name = title.replaceAll(" ", "-");
    expect((await command(["run", writeConfig(name)], isEnd)).code).toBeNull();
    expect(states(name).length).toBeGreaterThanOrEqual(3);
    const resumed = await command(["resume", inRun(name), "--set", "workers.count=1"]);
    expect([resumed.code, resumed.stderr]).toEqual([0, ""]);
    expect(bytesOf(name)).toEqual(undisturbed);
    const fits = readLines(inRun(name, "journal.jsonl")).filter(({ type }) => type === "fit");
    expect(fits.filter((fit) => fit["is_restored"]).length).toBeGreaterThanOrEqual(restored);
    expect(states(name)).toEqual([]);
  });

  test("with a state of the interrupted round damaged, whose client trains again", async () => {
    const isEnd = seen(2, (event) => event.type === "client-fit" && event.round === 2);
    expect((await command(["run", writeConfig("half-spooled")], isEnd)).code).toBeNull();
    const spooled = readLines(inRun("half-spooled", "journal.jsonl")).filter(({ type, round }) => type === "fit" && round === 2);
    const ofRound2 = states("half-spooled").filter((file) => file.includes(`${path.sep}2${path.sep}`));
    for (const file of ofRound2) damage(file);
    expect((await command(["resume", inRun("half-spooled")])).code).toBe(0);
    expect(bytesOf("half-spooled")).toEqual(undisturbed);
    const fits = readLines(inRun("half-spooled", "journal.jsonl")).filter(({ type, round }) => type === "fit" && round === 2);
    expect(fits.slice(spooled.length).map((fit) => fit["is_restored"])).toEqual([false, false, false]);
  });
});

test("a resume refuses to go on with a new optimizer where a client's state is damaged or missing, by its file", async () => {
  expect((await command(["run", writeConfig("damaged")], atRound(3))).code).toBeNull();
  const [first = "", ...others] = states("damaged").filter((file) => file.includes(`${path.sep}2${path.sep}`));
  expect(others.length).toBe(2);
  renameSync(first, `${first}.aside`);
  const missing = await command(["resume", inRun("damaged")]);
  expect(missing.code).toBe(1);
  expect(missing.stderr).toContain(`${first}: expected the state of client`);
  renameSync(`${first}.aside`, first);
  const whole = new Map(states("damaged").map((file) => [file, readFileSync(file)]));
  for (const file of whole.keys()) damage(file);
  const damaged = await command(["resume", inRun("damaged")]);
  expect(damaged.code).toBe(1);
  expect([...whole.keys()].some((file) => damaged.stderr.includes(`${file}: expected its checksum`))).toBe(true);
  for (const [file, content] of whole) writeFileSync(file, content);
  expect((await command(["resume", inRun("damaged")])).code).toBe(0);
  expect(bytesOf("damaged")).toEqual(undisturbed);
});

test("a run whose last adapter is damaged cannot go back to a round whose states are gone, and says so", async () => {
  expect((await command(["run", writeConfig("gone-back")], atRound(3))).code).toBeNull();
  damage(inRun("gone-back", "rounds/2/global.safetensors"));
  const refused = await command(["resume", inRun("gone-back")]);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(
    /client-states.1.\S+\.safetensors: expected the state of client \S+ optimizer after round 1, got no such file/,
  );
  rmSync(inRun("gone-back"), { recursive: true });
});

function damage(file: string): void {
  const content = readFileSync(file);
  writeFileSync(file, content.fill(1, content.length - 4));
}

/** Holds at the event that is the n-th for which `is` holds. */
function seen(n: number, is: (event: RunEvent) => unknown): (event: RunEvent) => boolean {
  let count = 0;
  return (event) => (is(event) ? ++count >= n : false);
}
