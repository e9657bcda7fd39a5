import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ConfigError, federate, InterruptedError, rayLauncher, type WorkerLauncher } from "../../../src/index.ts";
import { tinyLauncher, tinyRun } from "../../../src/testing/index.ts";
import { type FakeDriver, servingDriver } from "../../support/fake-driver.ts";
import { fakeJobsServer } from "../../support/fake-jobs-server.ts";

let runsDir: string;
beforeEach(() => {
  runsDir = mkdtempSync(path.join(tmpdir(), "prelort-ray-"));
});
afterEach(() => rmSync(runsDir, { recursive: true }));

function start(launcher: WorkerLauncher, changes: object = {}) {
  return federate(tinyRun({ runsDir, launcher, workers: { count: 2, devices: ["cpu"], transport: "tcp" }, ...changes }));
}

test("a run on Ray has the bytes of a run on one machine, and leaves no job", async () => {
  const local = await federate(tinyRun({ runsDir, name: "local" })).result;
  const server = await fakeJobsServer(servingDriver);
  const remote = await start(rayLauncher(server), { name: "remote" }).result;
  expect(remote.sha256).toBe(local.sha256);
  expect(server.jobs).toEqual([expect.objectContaining({ status: "SUCCEEDED" })]);
});

test("a run whose job is lost in a round goes on with another job, to the same bytes", async () => {
  const local = await federate(tinyRun({ runsDir, name: "local" })).result;
  const drivers: FakeDriver[] = [];
  const launcher = tinyLauncher();
  const server = await fakeJobsServer((job) => drivers.push(servingDriver(job, launcher)));
  const run = start(rayLauncher(server), { name: "remote" });
  for await (const event of run) if (event.type === "client-fit" && drivers.length === 1) drivers[0]?.die();
  expect((await run.result).sha256).toBe(local.sha256);
  expect(server.jobs.map(({ status }) => status)).toEqual(["FAILED", "SUCCEEDED"]);
});

test("a wrong token ends a run before it starts, with the key to change", async () => {
  const server = await fakeJobsServer(servingDriver);
  server.faults.token = "right";
  const run = start(rayLauncher(server), { name: "remote" });
  const error = await run.result.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).issues).toEqual([expect.objectContaining({ path: "workers.cluster.token_file" })]);
});

test("a worker that waits says for what", async () => {
  const server = await fakeJobsServer((job) => {
    const driver = servingDriver(job);
    driver.send({ type: "waiting", reason: "Ray has 0 of 2 CPU free" } as never);
  });
  const said: string[] = [];
  for await (const event of start(rayLauncher(server))) if (event.type === "worker-status") said.push(event.activity);
  expect(said).toContain("Ray has 0 of 2 CPU free");
  // Only the folder of the run is left.
  expect(readdirSync(runsDir)).toHaveLength(1);
  expect(readFileSync(path.join(runsDir, readdirSync(runsDir)[0]!, "run.json"), "utf8")).not.toContain(server.address);
});

test("a config puts a run on Ray, and a resume may put it on another cluster", async () => {
  const local = await federate(tinyRun({ runsDir, name: "local" })).result;
  const launcher = tinyLauncher();
  const servers = [];
  for (let index = 0; index < 2; index++) servers.push(await fakeJobsServer((job) => servingDriver(job, launcher)));
  const controller = new AbortController();
  const [first, second] = servers.map(({ address }) => ({ name: "ray" as const, address, count: { min: 2, max: 3 } }));
  const on = (cluster: typeof first) =>
    tinyRun({ runsDir, name: "remote", launcher: undefined, workers: { transport: "tcp", ...(cluster && { cluster }) } });
  const run = federate({ ...on(first), signal: controller.signal });
  run.result.catch(() => {});
  try {
    for await (const event of run) if (event.type === "round-end" && event.round === 1) controller.abort();
  } catch (error) {
    expect(error).toBeInstanceOf(InterruptedError);
  }
  const resumed = await federate({ ...on(second), resume: true }).result;
  expect(resumed.sha256).toBe(local.sha256);
  expect(servers.map(({ jobs }) => jobs.map(({ status }) => status !== "RUNNING"))).toEqual([[true], [true]]);
});
