import { expect, onTestFinished, test } from "vitest";
import type { Adapter } from "../../../src/adapter/adapter.ts";
import { createWorkerPool } from "../../../src/workers/pool.ts";
import { named, type Task } from "../../../src/workers/task.ts";
import { fitRequest, fitted, scriptedSettings, type ScriptedWorker, takePayload } from "../../support/scripted-worker.ts";

/* Workers of another machine that break the rules on what they keep and read. */

const payload: Adapter = { r: 2, rows: Float32Array.of(1, 2), dense: new Float32Array() };
const request = fitRequest("a", 2);
const fit: Task<"fit"> = { ...named({ kind: "fit", round: 1, clientId: "a" }), request, payload, expect: { rows: [2, 1] } };

async function startPool(script: (worker: ScriptedWorker) => unknown, count: number, taskTimeoutMs = 60_000) {
  // Heartbeats are what a worker that hangs may still send.
  const settings = { ...scriptedSettings(script), taskTimeoutMs, beatTimeoutMs: 3_600_000 };
  const pool = createWorkerPool({ ...settings, devices: ["cpu"], count, least: count, retries: 0 });
  onTestFinished(() => pool.close({ now: true }));
  await pool.start();
  return { pool, launched: settings.launched };
}

test("a worker that cannot read what was sent to it in chunks has failed: the task is not sent for ever", async () => {
  let times = 0;
  const { pool } = await startPool(async (worker) => {
    worker.hello({ memory: null });
    while (true) {
      const asked = await worker.expect("fit");
      const given = await takePayload(worker, asked);
      const { task_id, attempt } = asked;
      if (++times > 20) worker.answer(asked, fitted(asked), given);
      else
        worker.send({ task_id, attempt, type: "failure", error: { kind: "unshared", message: "no memory", traceback: "", problems: [] } });
    }
  }, 1);
  await expect(pool.run(fit)).rejects.toThrow("no memory");
  expect(times).toBe(1);
});

test("an idle worker that never confirms what it is to keep is ended, and the others go on without it", async () => {
  const { pool, launched } = await startPool(
    async (worker) => {
      worker.hello({ pid: 100 + worker.index, memory: "one machine" });
      // The first one only says that it lives.
      if (worker.workerId === "w0") return;
      while (true) {
        const message = await worker.next();
        const { task_id, attempt } = message as { task_id: string; attempt: number };
        if (message.type === "end") worker.send({ task_id, attempt, type: "kept", fd: 3 });
        if (message.type === "chunk") worker.send({ type: "credit", bytes: message.data.length });
        if (message.type === "fit") worker.answer(message, fitted(message), payload);
      }
    },
    2,
    200,
  );
  expect(await pool.runOn("w1", fit)).toBeDefined();
  expect(launched[0]?.wasKilled()).toBe(true);
});
