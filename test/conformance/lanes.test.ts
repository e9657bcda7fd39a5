import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { environmentPython } from "../../src/installation.ts";
import { SESSION } from "../../src/protocol/limits.ts";
import { createLanes, type Lanes } from "../../src/workers/lanes.ts";
import { type LaunchedWorker, type LauncherInUse, useLauncher } from "../support/launched-workers.ts";

let lanes: Lanes;
let inUse: LauncherInUse;
beforeEach(async () => {
  lanes = createLanes({ command: environmentPython(), processes: 1 });
  inUse = await useLauncher({ launcher: () => lanes.launcher }, { over: "ipc", lease: 3600 });
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

test("what a task of one's own prints is logged, and not taken for what the process says of its lanes", async () => {
  const code = [
    "import os, prelort_worker.device as device, prelort_worker.lanes.__main__ as lanes",
    "choose = device.choose_device",
    "device.choose_device = lambda name: (print('trying', name), os.system('echo loading my task'), choose(name))[-1]",
    "lanes.main()",
  ];
  const python = path.join(mkdtempSync(path.join(tmpdir(), "prelort-lanes-")), "python");
  writeFileSync(python, `#!/bin/sh\necho welcome\nshift 2\nexec ${environmentPython()} -c "${code.join("; ")}" "$@"\n`);
  chmodSync(python, 0o755);
  await using talkative = createLanes({ command: python, processes: 1 });
  const use = await useLauncher({ launcher: () => talkative.launcher }, { over: "ipc", lease: 3600 });
  const worker = use.launch();
  await worker.heard("hello");
  expect(worker.log()).toMatch(/trying cpu\n(.*\n)*loading my task|loading my task\n(.*\n)*trying cpu/);
  worker.kill();
  expect(await worker.exited).toEqual({ exitCode: 0 });
  await use.close();
  rmSync(path.dirname(python), { recursive: true });
});

test("a program that cannot be started is told by its name", async () => {
  await using none = createLanes({ command: "/nowhere/python", processes: 1 });
  const use = await useLauncher({ launcher: () => none.launcher }, { over: "ipc", lease: 3600 });
  expect((await use.launch().exited).problem).toContain("/nowhere/python");
  await use.close();
});
