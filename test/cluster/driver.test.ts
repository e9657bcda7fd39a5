import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import path from "node:path";
import { environmentPython } from "../../src/installation.ts";
import { eventually } from "../support/patience.ts";
import { type Driver, type DriverOptions, startDriver } from "../support/ray-driver.ts";
import { canMakeNamespaceHosts, loopbackHosts, namespaceHosts } from "../support/ray-hosts.ts";
import { type RayCluster, type RayNode, startRay } from "../support/ray.ts";

/** Workers need torch, which Ray's own environment lacks. */
const python = environmentPython();
const areHosts = canMakeNamespaceHosts();

const folder = mkdtempSync(path.join(tmpdir(), "prelort-driver-"));
let cluster: RayCluster;
const nodes: RayNode[] = [];
const drivers: Driver[] = [];

beforeAll(async () => {
  cluster = await startRay({ hosts: areHosts ? namespaceHosts(8) : loopbackHosts });
  nodes.push(await cluster.addNode());
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await cluster?.close();
});

afterEach(async () => {
  for (const driver of drivers.splice(0)) {
    await driver.vanish();
    await cluster.request("POST", `/api/jobs/${driver.job}/stop`);
    await eventually(async () => expect(["SUCCEEDED", "FAILED", "STOPPED"]).toContain(await driver.status()));
  }
  await eventually(() => expect(workersNow()).toEqual([]));
});

async function drive(options: Partial<DriverOptions> = {}): Promise<Driver> {
  const driver = await startDriver(cluster, { python, ...options });
  drivers.push(driver);
  return driver;
}

/** A program in the place of the workers' Python. */
function script(text: string): string {
  const file = path.join(folder, "worker.sh");
  writeFileSync(file, `#!/bin/sh\n${text}\n`);
  chmodSync(file, 0o755);
  return file;
}

function workersNow(): string[] {
  return [...cluster.processes().values()].filter((line) => line.includes("prelort_worker.__main__"));
}

function processOf(workerId: string): number {
  const found = [...cluster.processes()].find(([, line]) => line.includes(`--worker-id ${workerId} `));
  expect(found).toBeDefined();
  return found?.[0] ?? 0;
}

test("a worker is placed on a node, says hello, and is gone after a kill, with the end of its output", async () => {
  const driver = await drive();
  await driver.launch("w0");
  const placed = await driver.told("placed", "w0");
  expect(placed.node).toMatch(/^[0-9a-f]{56}$/);
  const { host } = await driver.heard("hello", "w0");
  expect(host).toBe(placed.host);
  if (areHosts) expect(nodes.map((node) => node.host.name)).toContain(host);
  await driver.kill("w0");
  expect(await driver.told("exited", "w0")).toMatchObject({ exit_code: null, signal: "SIGKILL", problem: null });
  expect(workersNow()).toEqual([]);
});

test("a worker's lease can end it, whatever the process that started it blocks", async () => {
  const driver = await drive();
  await driver.launch("w0");
  await driver.heard("hello", "w0");
  const status = readFileSync(`/proc/${processOf("w0")}/status`, "utf8");
  const [blocked, ignored] = ["SigBlk", "SigIgn"].map((name) => BigInt(`0x${new RegExp(`^${name}:\\s*(\\w+)$`, "m").exec(status)?.[1]}`));
  const alarm = 1n << BigInt(constants.signals.SIGALRM - 1);
  expect([(blocked ?? 0n) & alarm, (ignored ?? 0n) & alarm]).toEqual([0n, 0n]);
});

test("the end of a worker is told with its exit code or signal and the end of its output", async () => {
  const driver = await drive({ python: script('echo "no such model" >&2; exit 7') });
  await driver.launch("w0");
  expect(await driver.told("exited", "w0")).toMatchObject({ exit_code: 7, signal: null, problem: null, log: "no such model" });
  expect(driver.from("launcher-0").some(({ type }) => type === "placed")).toBe(false);
  const other = await drive();
  await other.launch("w0");
  await other.heard("hello", "w0");
  process.kill(processOf("w0"), "SIGTERM");
  expect(await other.told("exited", "w0")).toMatchObject({ exit_code: null, signal: "SIGTERM", problem: null });
});

test("a worker that cannot be started is a problem that names the host and the program", async () => {
  const driver = await drive({ python: "/nowhere/python" });
  await driver.launch("w0");
  const { problem } = await driver.told("exited", "w0");
  expect(problem).toContain("/nowhere/python");
  if (areHosts) expect(problem).toContain("prelort-host-");
});

test("resources that Ray refuses are a problem, not a failure of the driver", async () => {
  const driver = await drive({ resources: { num_cpus: 1, resources: { "": -1 } } });
  await driver.launch("w0");
  expect((await driver.told("exited", "w0")).problem).not.toBe("");
  expect(await driver.status()).toBe("RUNNING");
});

test("what launches wait for is told, with numbers, and that nothing waits any more", async () => {
  const driver = await drive({ resources: { num_cpus: 2 } });
  const reasons = () => driver.from("launcher-0").flatMap((message) => (message.type === "waiting" ? [message.reason] : []));
  await driver.launch("w0");
  await driver.told("placed", "w0");
  await driver.launch("w1");
  await eventually(() => expect(reasons()).toContain("Ray has 0 of 2 CPU free"));
  await driver.kill("w0");
  await driver.told("placed", "w1");
  await eventually(() => expect(reasons().at(-1)).toBe(""));
  const large = await drive({ resources: { num_cpus: 64, num_gpus: 1 } });
  await large.launch("w0");
  const reason = "no node of the cluster has 64 CPU (the largest has 2) or 1 GPU (the largest has 0)";
  await eventually(() => expect(large.from("launcher-0")).toContainEqual(expect.objectContaining({ type: "waiting", reason })));
  await large.kill("w0");
  expect(await large.told("exited", "w0")).toMatchObject({ signal: "SIGKILL", problem: null });
});

test("a driver that is told to stop ends its workers, and its job succeeds", async () => {
  const driver = await drive({ resources: { num_cpus: 1 } });
  for (const worker of ["w0", "w1", "w2"]) await driver.launch(worker);
  for (const worker of ["w0", "w1"]) await driver.heard("hello", worker);
  await driver.stop();
  for (const worker of ["w0", "w1", "w2"]) expect(await driver.told("exited", worker)).toMatchObject({ signal: "SIGKILL" });
  await eventually(async () => expect(await driver.status()).toBe("SUCCEEDED"));
  expect(workersNow()).toEqual([]);
});

test("a driver whose controller is gone ends, and so do its workers", async () => {
  const driver = await drive({ lease: 5 });
  await driver.launch("w0");
  await driver.heard("hello", "w0");
  await driver.vanish();
  await eventually(async () => expect(await driver.status()).toBe("FAILED"));
  await eventually(() => expect(workersNow()).toEqual([]));
  expect(await driver.log()).toContain("the connection to the controller at");
});

test("a worker is not placed on a node to avoid, unless no other has what it needs", async () => {
  const other = await cluster.addNode();
  const driver = await drive();
  await driver.launch("w0");
  const { node } = await driver.told("placed", "w0");
  await driver.launch("w1", { avoid: [node] });
  const second = await driver.told("placed", "w1");
  expect(second.node).not.toBe(node);
  await driver.launch("w2", { avoid: [node, second.node] });
  await driver.told("placed", "w2");
  // The nodes have room for one worker more, and Ray prefers to fill one up before it takes another.
  await driver.launch("w3", { avoid: [second.node] });
  await driver.launch("w4", { avoid: [node] });
  await eventually(() => expect(driver.from("launcher-0").filter(({ type }) => type === "placed").length).toBeGreaterThanOrEqual(4));
  await driver.stop();
  await other.kill();
});

test("the loss of a node is told at once, and another takes the worker", async () => {
  const lost = await cluster.addNode({ cpus: 3 });
  const driver = await drive({ resources: { num_cpus: 3 } });
  await driver.launch("w0");
  const { node, host } = await driver.told("placed", "w0");
  await driver.heard("hello", "w0");
  await lost.kill();
  const exited = await driver.told("exited", "w0");
  expect(exited).toMatchObject({ exit_code: null, signal: null });
  expect(exited.problem).toContain(node);
  expect(exited.problem).toContain(host);
  await driver.launch("w1");
  nodes.push(await cluster.addNode({ cpus: 3 }));
  await driver.told("placed", "w1");
});

test("a node that hangs holds nobody else up, and a worker there counts as ended once it is killed", async () => {
  const hung = await cluster.addNode({ cpus: 4 });
  const driver = await drive({ resources: { num_cpus: 1 } });
  const large = await drive({ resources: { num_cpus: 4 } });
  await large.launch("w0");
  const { node } = await large.told("placed", "w0");
  hung.signal("SIGSTOP");
  await large.kill("w0");
  expect(await large.told("exited", "w0")).toMatchObject({ exit_code: null, signal: "SIGKILL" });
  await driver.launch("w0", { avoid: [node] });
  expect((await driver.told("placed", "w0")).node).not.toBe(node);
  await hung.kill();
});

test.skipIf(!areHosts)("a worker on a host that is cut off ends with its lease, and another is placed elsewhere", async () => {
  const cut = await cluster.addNode({ cpus: 5 });
  const driver = await drive({ lease: 6, resources: { num_cpus: 5 } });
  await driver.launch("w0");
  const { node, host } = await driver.told("placed", "w0");
  expect(host).toBe(cut.host.name);
  await driver.heard("hello", "w0");
  const other = await cluster.addNode({ cpus: 5 });
  cut.host.setLink?.("down");
  await driver.kill("w0");
  await driver.launch("w1", { avoid: [node] });
  expect((await driver.told("placed", "w1")).host).toBe(other.host.name);
  expect(await driver.told("exited", "w0")).toMatchObject({ signal: "SIGKILL", problem: null });
  await eventually(() => expect(workersNow().filter((line) => line.includes("--worker-id w0 "))).toEqual([]));
  for (const node of [cut, other]) await node.kill();
});
