import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { validateRun } from "../../../src/config/build.ts";
import { exportCommand } from "../../../src/cli/export.ts";
import { resumeCommand } from "../../../src/cli/resume.ts";
import { verifyCommand } from "../../../src/cli/verify.ts";
import { PROTOCOL_VERSION } from "../../../src/protocol/limits.ts";
import { writeState } from "../../../src/records/client-state-file.ts";
import { reopenRunDirectory } from "../../../src/records/run-directory.ts";
import { createUpdateStore } from "../../../src/records/update-store.ts";
import { writeReport } from "../../../src/report/html.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { saveAdapters } from "../../../src/server/save-adapters.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { asFloat32 } from "../../../src/tensor/encoded.ts";
import type { Reply } from "../../../src/workers/task.ts";
import { randomAdapter } from "../../../src/testing/index.ts";
import { documentedFiles } from "./documented-files.ts";
import { NOTHING_TRAINED } from "../../../src/records/metrics.ts";
import { unevaluated } from "./figures.ts";
import { madeRuns } from "../../support/made-run.ts";

const records = path.join(import.meta.dirname, "../../../src/records");
const readme = readFileSync(path.join(records, "README.md"), "utf8");
const runs = madeRuns();
const layout = createLayout({ r: 2, tiers: [1, 2], scale: 2 }, { modules: [{ name: "x.q", in: 3, out: 4 }], dense: [] });
const adapter = randomAdapter(layout, 2, "a");

function fitReply(): Reply<"fit"> {
  const rows = asFloat32(Float32Array.of(1, 2));
  const tensor = { name: "rows" as const, dtype: "F32" as const, shape: [2], bytes: 8, crc32: null, shared: null };
  const figures = {
    r: 2,
    scale: 2,
    n: 10,
    steps: 3,
    passes: 3,
    loss: 0.5,
    rms_loss: 0.5,
    grad_norm: null,
    norm: null,
    seconds: 1,
    peak_memory_bytes: null,
  };
  const envelope = { type: "fitted", protocol_version: PROTOCOL_VERSION, task_id: "t", attempt: 1, client_id: "c0" } as const;
  return { workerId: "w0", attempt: 1, message: { ...envelope, ...figures, tensors: [tensor] }, payload: { rows }, close: () => {} };
}

const config = validateRun({
  rounds: 1,
  model: { nameOrPath: "some/base", task: "causal-lm" },
  lora: { r: 2, target_modules: ["q"] },
  data: { path: "words.jsonl", prompt: "", answer: "{gloss}", clients: 1 },
  strategy: { selection: allClients(), rankAssignment: () => 2, aggregation: segmentWise() },
});

/** Creates every file that a run can leave with the code that normally does; a worker's log, a tracker's files and a replaced run are faked. */
async function makeFiles(): Promise<readonly string[]> {
  const root = await runs.make({ name: "a", layout, rounds: [adapter] });
  const directory = await reopenRunDirectory(root);
  await directory.writeDataFiles([]);
  directory.timings.append({ round: 0, phase: "start workers", seconds: 1 });
  directory.events.append({ version: 1, number: 1, at: 0, type: "phase-start" });
  await directory.writeMetrics(unevaluated(0));
  const state = { momentum: Float32Array.of(1) };
  mkdirSync(directory.file("replaced"));
  writeFileSync(directory.file("workers", "w0.log"), "");
  await directory.commitRound({ round: 1, global: [new Uint8Array(1)], state, trained: NOTHING_TRAINED, setAside: [], clients: [] });
  mkdirSync(directory.file("replaced"));
  writeFileSync(directory.file("replaced", "run.json"), "{}");
  for (const isRecorded of [true, false]) {
    const store = createUpdateStore({ folder: directory.file("updates"), isRecorded, isRead: false, maxBytes: 1e9 });
    const round = await store.open(1, "0".repeat(64));
    await round.keep({ id: "c0", seed: "5" }, fitReply());
    const rows = { dtype: "I8", length: 2, bytes: Uint8Array.of(1, 2) } as const;
    if (!isRecorded) await round.keepSum(1, { workerId: "w0", fits: [fitReply().message], payload: { rows } });
  }
  const origin = { clientId: "c0", round: 1, adapter: "0".repeat(64), seed: "5" };
  await writeState(directory.file("client-states"), origin, { r: 2, state: new Uint8Array(4) });
  const commit = { round: 0, sha256: "0".repeat(64) };
  const made = { config, peft: { taskType: "CAUSAL_LM", modulesToSave: [] }, layout, directory };
  await saveAdapters(made, { last: { ...commit, presented: adapter }, best: commit });
  // A tracker's process writes these.
  const ofTrackers = ["track/mlflow.json", "track/mlflow.lock", "tensorboard/events.out.tfevents.1", "wandb/offline-run-1/run-1.wandb"];
  for (const file of ofTrackers) {
    mkdirSync(path.dirname(directory.file(file)), { recursive: true });
    writeFileSync(directory.file(file), "");
  }
  await writeReport(root);
  const files = readdirSync(root, { recursive: true, encoding: "utf8", withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)));
  await directory.close();
  return files;
}

test("src/records/README.md lists exactly the files that a run leaves", async () => {
  const files = await makeFiles();
  expect(documentedFiles.length).toBeGreaterThan(10);
  expect(documentedFiles.filter(({ pattern }) => !files.some((file) => pattern.test(file))).map(({ name }) => name)).toEqual([]);
  expect(files.filter((file) => !documentedFiles.some(({ pattern }) => pattern.test(file)))).toEqual([]);
});

test("src/records/README.md names only existing schema files and command options", () => {
  const schemas = documentedFiles.flatMap(({ schema }) => schema ?? []);
  const named = [...readme.matchAll(/`([\w-]+\.ts)`/g)].map(([, name]) => name as string);
  expect(named).toEqual(expect.arrayContaining(schemas));
  expect(named.filter((name) => !existsSync(path.join(records, name)))).toEqual([]);

  const commands = new Map([resumeCommand(), verifyCommand(), exportCommand()].map((command) => [command.name(), command]));
  const lines = [...readme.matchAll(/^npx prelort (\w+) runs\/quickstart(.*)$/gm)];
  expect(lines.length).toBeGreaterThan(3);
  const unknown = lines.flatMap(([line, name = "", options = ""]) => {
    const known = commands.get(name)?.options.map(({ long }) => long) ?? [];
    return [...options.matchAll(/--[\w-]+/g)].flatMap(([option]) => (commands.has(name) && known.includes(option) ? [] : [line]));
  });
  expect(unknown).toEqual([]);
  expect(lines.map(([, name]) => name).filter((name) => !commands.has(name ?? ""))).toEqual([]);
});
