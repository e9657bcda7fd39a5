import { readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EnvironmentError, RunFailedError } from "../../../src/errors.ts";
import { trackerFolder, trackerPython } from "../../../src/installation.ts";
import { unnamedTrackers } from "../../../src/records/named-code.ts";
import { loadRun } from "../../../src/server/loaded-run.ts";
import { deliverRun } from "../../../src/track/deliver-run.ts";
import type { TrackerStatus } from "../../../src/track/delivery.ts";
import { prepareTracking } from "../../../src/track/tracking.ts";
import { eventually } from "../../support/patience.ts";
import { trainTiny } from "../../support/ui-runs.ts";

/* A tracker's process is a script here. test/trackers has the real ones. */

let folder: string;
const { signal } = new AbortController();
const tracker = { name: "mlflow", experiment: "a" } as const;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-tracking-"));
  vi.stubEnv("PRELORT_CACHE", folder);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

/** Puts a script in the place of the tracker's Python; `starts` is how often it was started to deliver, `say` reports. */
async function install(script: string): Promise<void> {
  const file = trackerPython("mlflow");
  await mkdir(path.dirname(file), { recursive: true });
  const counter = JSON.stringify(path.join(folder, "starts"));
  const text = `#!${process.execPath}
const { appendFileSync, readFileSync } = require("node:fs");
const say = (report) => console.log(JSON.stringify(report));
const onState = (act) => require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => act(JSON.parse(line).state));
appendFileSync(${JSON.stringify(path.join(folder, "words"))}, process.argv.slice(2).join(" ") + "\\n");
if (process.argv.includes("check")) { say({ type: process.env.CHECK ?? "ok", message: "a word" }); process.exit(); }
appendFileSync(${counter}, process.argv.slice(2).join(" ") + "\\n");
const starts = readFileSync(${counter}, "utf8").trim().split("\\n").length;
${script}
`;
  await writeFile(file, text);
  await chmod(file, 0o755);
}

async function start(graceMs?: number) {
  const told: TrackerStatus[] = [];
  const tracking = await prepareTracking({ trackers: [tracker], signal, tell: (status) => told.push(status), ...(graceMs && { graceMs }) });
  await tracking.start("/runs/a");
  return { told, tracking };
}

test("the tracker's process is told of the run, and of its state when it ends", async () => {
  await install(`say({ type: "open", round: -1 });
onState((state) => { say({ type: "delivered", round: state === "finished" ? 4 : 0 }); say({ type: "closed" }); process.exit(); });`);
  const { told, tracking } = await start();
  await tracking.close("finished");
  await tracking.close("failed");
  expect(told).toEqual([
    { tracker: "mlflow", state: "open", round: -1 },
    { tracker: "mlflow", state: "delivered", round: 4 },
  ]);
  const started = await readFile(path.join(folder, "starts"), "utf8");
  expect(started).toContain(`deliver --name mlflow --options {"experiment":"a"} --directory /runs/a --parent-pid ${process.pid}`);
});

test("the tracker's process is told the best round of the run when it ends", async () => {
  const runsDir = path.join(folder, "runs");
  const best = { metric: "accuracy", at: "worst" } as const;
  await trainTiny({ runsDir, name: "a", rounds: 2, evaluate: { best } });
  const said = path.join(folder, "said");
  await install(`require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  require("node:fs").writeFileSync(${JSON.stringify(said)}, line); say({ type: "closed" }); process.exit(); });`);
  const tracking = await prepareTracking({ trackers: [tracker], signal, tell: () => undefined });
  await tracking.start(path.join(runsDir, "a"));
  await tracking.close("failed");
  const { best: found } = await loadRun(path.join(runsDir, "a"));
  expect(found).toMatchObject(best);
  expect(JSON.parse(await readFile(said, "utf8"))).toEqual({ state: "failed", best: found });
});

test("a check is told of its parent, with which it ends", async () => {
  await install(`onState(() => { say({ type: "closed" }); process.exit(); });`);
  const { tracking } = await start();
  await tracking.close("finished");
  const [check] = (await readFile(path.join(folder, "words"), "utf8")).split("\n");
  expect(check).toMatch(new RegExp(`check --name mlflow .* --parent-pid ${process.pid}$`));
});

test("a process that is given up is asked to end, so that it can tidy up, and is killed with its own processes if it does not", async () => {
  const tidied = path.join(folder, "tidied");
  const helper = `require("node:child_process").spawn(process.execPath, ["-e", "process.on('SIGTERM', () => undefined); setInterval(() => undefined, 1000)"], { stdio: "ignore" })`;
  await install(`const { pid } = ${helper};
process.on("SIGTERM", () => { require("node:fs").writeFileSync(${JSON.stringify(tidied)}, ""); if (process.env.STAYS === undefined) process.exit(); });
say({ type: "open", round: 0 }); say({ type: "behind", message: [process.pid, pid].join(" ") }); setInterval(() => undefined, 1000);`);
  for (const stays of [undefined, "1"]) {
    vi.stubEnv("STAYS", stays);
    const { told, tracking } = await start(1);
    await eventually(() => expect(told).toHaveLength(2));
    await tracking.close("failed");
    await rm(tidied);
    for (const pid of (told.at(-1)?.error ?? "").split(" ")) await eventually(() => expect(isAlive(Number(pid))).toBe(false));
  }
});

/** A zombie is not. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

test("a process that dies is started again, which is told once", async () => {
  await install(`say({ type: "open", round: starts });
if (starts < 2) { console.error("out of memory"); process.exitCode = 9; }
else onState(() => { say({ type: "closed" }); process.exit(); });`);
  const { told, tracking } = await start();
  await eventually(() => expect(told).toHaveLength(3));
  await tracking.close("finished");
  expect(told).toEqual([
    { tracker: "mlflow", state: "open", round: 1 },
    { tracker: "mlflow", state: "behind", round: 1, error: "its process ended: out of memory" },
    { tracker: "mlflow", state: "open", round: 2 },
    { tracker: "mlflow", state: "delivered", round: 2 },
  ]);
});

test("a tracker that is behind at the end is waited for no longer than the grace, and its process is killed", async () => {
  await install(
    `say({ type: "open", round: 0 }); say({ type: "behind", message: "it is down at " + process.pid }); setInterval(() => {}, 1000);`,
  );
  const { told, tracking } = await start(1);
  await eventually(() => expect(told).toHaveLength(2));
  await tracking.close("failed");
  const error = told.at(-1)?.error ?? "";
  expect(told.map(({ state }) => state)).toEqual(["open", "behind", "incomplete"]);
  expect(error).toMatch(/^it is down at \d+$/);
  expect(() => process.kill(Number(error.split(" ").at(-1)), 0)).toThrow("ESRCH");
});

test("without trackers nothing is started or told", async () => {
  const tracking = await prepareTracking({ trackers: [], signal, tell: () => expect.unreachable() });
  await tracking.start("/runs/a");
  await tracking.close("finished");
});

test("a tracker that cannot be reached is told and does not stop a run; a missing package and refused credentials do", async () => {
  const check = async (answer: string) => {
    vi.stubEnv("CHECK", answer);
    return start(1);
  };
  await expect(start()).rejects.toThrow(EnvironmentError);
  await expect(start()).rejects.toMatchObject({ remedy: "npx prelort setup --track mlflow" });
  await install(`onState(() => { say({ type: "closed" }); process.exit(); });`);
  const { told, tracking } = await check("unreachable");
  expect(told).toEqual([{ tracker: "mlflow", state: "behind", round: -1, error: "a word" }]);
  await tracking.close("finished");
  await expect(check("missing")).rejects.toMatchObject({ kind: "environment", remedy: "npx prelort setup --track mlflow" });
  await expect(check("refused")).rejects.toMatchObject({ issues: [{ path: "track[0]", message: "mlflow: a word" }] });
});

test("a run is delivered afterwards, or it is said up to which round and why", async () => {
  await install(`say({ type: "open", round: 1 });
onState((state) => { say({ type: "delivered", round: 3 }); say(state === "failed" ? { type: "behind", message: "down" } : { type: "closed" }); if (state !== "failed") process.exit(); });`);
  expect(await deliverRun(tracker, "/runs/a", { ending: { state: "finished" }, signal })).toEqual({
    tracker: "mlflow",
    before: 1,
    round: 3,
  });
  const failing = deliverRun(tracker, "/runs/a", { ending: { state: "failed" }, signal });
  await expect(failing).rejects.toThrow(RunFailedError);
  await expect(failing).rejects.toThrow(/mlflow beyond round 3: down/);
  await expect(deliverRun(tracker, "/runs/a", { ending: { state: "finished" }, signal: AbortSignal.abort() })).rejects.toMatchObject({
    kind: "interrupted",
  });
});

test("a tracker that sends, or has options, has to be named on this machine before a record sends anything to it", async () => {
  await install(`onState(() => { say({ type: "closed" }); process.exit(); });`);
  expect(unnamedTrackers([tracker, { name: "trackio" }])).toEqual([{ key: "track", value: '{"name":"mlflow","experiment":"a"}' }]);
  const { tracking } = await start();
  await tracking.close("finished");
  expect(unnamedTrackers([tracker])).toEqual([]);
  expect(unnamedTrackers([{ ...tracker, experiment: "b" }])).toHaveLength(1);
  // Where the environment says: a server, perhaps.
  expect(unnamedTrackers([{ name: "mlflow" }, { name: "wandb" }, { name: "tensorboard" }])).toEqual([
    { key: "track", value: '{"name":"mlflow"}' },
    { key: "track", value: '{"name":"wandb"}' },
  ]);
  expect(trackerFolder("mlflow")).toContain(folder);
});
