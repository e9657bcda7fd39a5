import { expect, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import { requireSameDevice } from "../../../src/server/same-on-every-worker.ts";
import { createWorkerPool } from "../../../src/workers/pool.ts";
import type { WorkerHello } from "../../../src/workers/task.ts";
import { issuesOf } from "../../support/config-issues.ts";
import { scriptedSettings } from "../../support/scripted-worker.ts";

const here: WorkerHello = {
  workerId: "w0",
  pid: 1,
  host: "a",
  versions: {},
  variables: {},
  device: { type: "cuda", name: "NVIDIA A100", capability: "8.0", memoryBytes: 1 },
};

test.each([
  ["type", { type: "cpu" }, "cpu"],
  ["name", { name: "NVIDIA H200" }, "NVIDIA H200"],
  ["instructions", { capability: "9.0" }, "9.0"],
])("a device of another %s is refused, with both machines named and what to do", async (_, changes, named) => {
  const other = { ...here, workerId: "w1", host: "b", device: { ...here.device, ...changes } };
  const [refused, ...more] = await issuesOf(() => requireSameDevice(here, other));
  expect([refused?.path, more]).toEqual(["workers.mixedDevices", []]);
  for (const part of [named, "w1 on b", "w0 on a", "NVIDIA A100", "workers.mixed_devices"]) expect(refused?.message).toContain(part);
});

test("devices that differ only in memory are of one kind", () => {
  requireSameDevice(here, { ...here, workerId: "w1", device: { ...here.device, memoryBytes: 2 } });
});

test("a worker that must not be used ends the run before it gets a task", async () => {
  const settings = scriptedSettings((worker) => worker.workerId === "w1" && worker.hello());
  const accept = ({ workerId }: WorkerHello) => {
    if (workerId === "w1") throw new ConfigError([{ path: "workers.mixedDevices", message: "another device" }]);
  };
  const pool = createWorkerPool({ ...settings, devices: ["cpu"], count: 2, retries: 0, accept });
  await expect(pool.start()).rejects.toThrow(ConfigError);
  await pool.close({ now: true });
  expect(settings.launched.find(({ workerId }) => workerId === "w1")?.wasKilled()).toBe(true);
});
