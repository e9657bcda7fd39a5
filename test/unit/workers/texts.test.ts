import { expect, onTestFinished, test } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import { toDataSpec } from "../../../src/config/wire-specs.ts";
import { tinyRun } from "../../../src/testing/index.ts";
import { createWorkerPool } from "../../../src/workers/pool.ts";
import { named, type Task, type WorkerPool } from "../../../src/workers/task.ts";
import { fitRequest, scriptedSettings, type ScriptedWorker } from "../../support/scripted-worker.ts";

/* Pieces of an answer that come before its reply. */

const adapter = { r: 1, rows: Float32Array.of(1, 2), dense: new Float32Array() };
const ANSWER = { r: 1, text: "a b", tokens: 2, finish: "stop", seconds: 1, labels: null };

async function poolOf(script: (worker: ScriptedWorker) => unknown): Promise<WorkerPool> {
  const settings = scriptedSettings(async (worker) => {
    worker.hello();
    await script(worker);
  });
  const pool = createWorkerPool({ ...settings, devices: ["cpu"], count: 1, retries: 0 });
  onTestFinished(() => pool.close({ now: true }));
  await pool.start();
  return pool;
}

function question(overrides: Partial<Task<"generate">> = {}): Task<"generate"> {
  const { launcher: _, ...input } = tinyRun({ runsDir: "unused" });
  const options = {
    seed: "0".repeat(32),
    data: toDataSpec(validateRun(input)),
    fields: {},
    raw: false,
    max_new_tokens: 2,
    temperature: 0,
    top_p: 1,
  };
  const request: Task<"generate">["request"] = { type: "generate", asked: [{ r: 1, messages: [] }], scale: 1, ...options };
  return { ...named({ kind: "generate", part: 1 }), request, payload: adapter, ...overrides };
}

/** Reads a task with its tensors. */
async function take<T extends "generate" | "fit">(worker: ScriptedWorker, type: T) {
  const task = await worker.expect(type);
  while ((await worker.next()).type !== "end");
  return task;
}

test("are heard in order before the reply; those of other tasks and attempts, and late ones, are not", async () => {
  const pool = await poolOf(async (worker) => {
    const task = await take(worker, "generate");
    const say = (text: string, changes = {}) =>
      worker.send({ type: "text", task_id: task.task_id, attempt: task.attempt, r: 1, text, ...changes });
    say("a");
    say("another attempt's", { attempt: 7 });
    say("another task's", { task_id: "generate/0" });
    say(" b");
    worker.answer(task, { type: "generated", form: "raw", answers: [ANSWER] });
    say("late");
  });
  const heard: string[] = [];
  const { message } = await pool.run(question({ hear: ({ text }) => void heard.push(text) }));
  expect([heard, message.form, message.answers]).toEqual([["a", " b"], "raw", [ANSWER]]);
});

test("an error about one fails the attempt", async () => {
  const pool = await poolOf(async (worker) => {
    const { task_id, attempt } = await take(worker, "generate");
    worker.send({ type: "text", task_id, attempt, r: 1, text: "a" });
  });
  const hear = () => {
    throw new Error("unheard of");
  };
  await expect(pool.run(question({ hear }))).rejects.toThrow("unheard of");
});

test("are refused in place of the answer to another task", async () => {
  const pool = await poolOf(async (worker) => {
    const { task_id, attempt } = await take(worker, "fit");
    worker.send({ type: "text", task_id, attempt, r: 1, text: "a" });
  });
  const fit: Task<"fit"> = { ...named({ kind: "fit", round: 1, clientId: "c0" }), request: fitRequest("c0", 1), payload: adapter };
  await expect(pool.run(fit)).rejects.toThrow("expected fitted, got text");
});
