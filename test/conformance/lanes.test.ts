import { afterEach, beforeEach, expect, test } from "vitest";
import { environmentPython } from "../../src/installation.ts";
import { SESSION } from "../../src/protocol/limits.ts";
import { type LaneLauncher, laneLauncher } from "../../src/workers/lane-launcher.ts";
import { type LaunchedWorker, type LauncherInUse, useLauncher } from "../support/launched-workers.ts";

let lanes: LaneLauncher;
let inUse: LauncherInUse;
beforeEach(async () => {
  lanes = laneLauncher({ command: environmentPython(), processes: 1 });
  inUse = await useLauncher({ launcher: () => lanes }, { over: "ipc", lease: 3600 });
});
afterEach(async () => {
  await inUse.close();
  await lanes.close();
});

const stop = ({ send }: LaunchedWorker) => send({ ...SESSION, type: "stop" });

test("lanes of one process say hello as workers of their own, and end one by one: when they are told to stop, or killed", async () => {
  const workers = [inUse.launch(), inUse.launch(), inUse.launch()] as const;
  const hellos = await Promise.all(workers.map(({ heard }) => heard("hello")));
  expect(new Set(hellos.map(({ pid }) => pid))).toEqual(new Set([workers[0].pid]));
  expect(hellos[0]?.variables).toMatchObject({ PRELORT_SIDE_BY_SIDE: "1" });
  workers[0].kill();
  expect(await workers[0].exited).toEqual({ exitCode: 0 });
  await stop(workers[1]);
  expect(await workers[1].exited).toEqual({ exitCode: 0 });
  const basis = { round: 1, adapter: "", resolution: 1 };
  await workers[2].send({ ...SESSION, task_id: "sum", attempt: 1, traceparent: null, type: "collect", basis, dtype: "F64" });
  expect(await workers[2].heard("failure")).toMatchObject({ task_id: "sum", error: { kind: "failed" } });
  expect(workers[2].log()).toContain("no model is loaded");
});

test("when the process is killed, all its lanes have exited, and the next worker has a new one", async () => {
  const workers = [inUse.launch(), inUse.launch()] as const;
  const { pid } = await workers[0].heard("hello");
  process.kill(pid, "SIGKILL");
  for (const { exited } of workers) expect(await exited).toMatchObject({ signal: "SIGKILL" });
  const next = inUse.launch();
  expect((await next.heard("hello")).pid).not.toBe(pid);
});

test("a program that cannot be started is told by its name", async () => {
  await using launcher = laneLauncher({ command: "/nowhere/python", processes: 1 });
  const use = await useLauncher({ launcher: () => launcher }, { over: "ipc", lease: 3600 });
  expect((await use.launch().exited).problem).toContain("/nowhere/python");
  await use.close();
});
