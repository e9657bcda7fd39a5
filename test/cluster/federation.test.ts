import type { ChildProcess } from "node:child_process";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { ConfigError, federate, type FederateOptions, InterruptedError, plan, type RunEvent } from "../../src/index.ts";
import { python, temporaryFolder, tinyRun } from "../support/e2e.ts";
import { eventually } from "../support/patience.ts";
import { startTraining } from "../support/training-process.ts";
import { canMakeNamespaceHosts, loopbackHosts, namespaceHosts } from "../support/ray-hosts.ts";
import { prelortOn, type RayCluster, type RayNode, startRay } from "../support/ray.ts";

/* Whole runs on a real Ray cluster, by the launcher and its driver. */

const runs = temporaryFolder();
let cluster: RayCluster;
let nodes: RayNode[];
const controllers: ChildProcess[] = [];

beforeAll(async () => {
  cluster = await startRay({ hosts: canMakeNamespaceHosts() ? namespaceHosts(6) : loopbackHosts });
  nodes = [await cluster.addNode({ cpus: 1 }), await cluster.addNode({ cpus: 1 })];
});
afterEach(async () => {
  for (const controller of controllers.splice(0)) controller.kill("SIGKILL");
  await eventually(async () => expect(await prelortOn(cluster)).toEqual([]));
});
afterAll(() => cluster?.close());

function onRay(count: number): NonNullable<FederateOptions["workers"]> {
  const ray = {
    name: "ray",
    address: cluster.url,
    resources: { CPU: 1 },
    count: { min: count, max: count },
    trustedNetwork: true,
  } as const;
  return { transport: "tcp", host: cluster.address, python, beatTimeout: 10, cluster: ray };
}

const isReady = (event: RunEvent) => event.type === "worker-ready";

test.each([
  { sends: "every update", partialSums: false, count: 1 },
  { sends: "partial sums", partialSums: { every: 2 }, count: 2 },
] as const)(
  "a run with a node killed in the middle of a round gives the bytes of a local run: $count at a time, $sends",
  async (options) => {
    const { sends, partialSums, count } = options;
    const name = sends.replace(" ", "-");
    const run = federate({ ...tinyRun(runs(), `ray-${name}`), rounds: 3, partialSums, workers: onRay(count) });
    const hosts = new Map<string, string>();
    const lost = new Set<string>();
    let killed: string | undefined;
    for await (const event of run) {
      if (event.type === "worker-ready") hosts.set(event.workerId, event.host);
      if (event.type === "worker-status" && event.state === "failed") lost.add(event.workerId);
      if (event.type !== "client-fit" || killed !== undefined) continue;
      killed = event.workerId;
      const host = hosts.get(killed);
      // Where hosts have no names of their own, any of the nodes may be the worker's.
      const struck = nodes.filter(({ host: { name: own } }) => own === undefined || own === host).slice(0, count);
      nodes = nodes.filter((node) => !struck.includes(node));
      for (const node of struck) await node.kill();
      for (const _ of struck) nodes.push(await cluster.addNode({ cpus: 1 }));
    }
    const { sha256 } = await run.result;
    expect(sha256).toBe((await federate({ ...tinyRun(runs(), `local-${name}`), rounds: 3 }).result).sha256);
    if (nodes[0]?.host.name !== undefined) expect(lost).toContain(killed);
    // The only worker must have been replaced.
    if (count === 1) expect([...hosts.keys()]).toEqual(["w0", "w0.1"]);
  },
);

test("an interrupted run leaves no worker and no job", async () => {
  const controller = new AbortController();
  const run = federate({ ...tinyRun(runs(), "interrupted"), rounds: 1000, workers: onRay(1), signal: controller.signal });
  const ended = (async () => {
    for await (const event of run) if (event.type === "client-fit") controller.abort();
  })();
  await expect(ended).rejects.toThrow(InterruptedError);
  expect(await prelortOn(cluster)).toEqual([]);
});

test("when the controller is killed, its workers and its job end", async () => {
  const { host, python: interpreter, cluster: ray } = onRay(1);
  const workers = {
    transport: "tcp",
    host,
    python: interpreter,
    beat_timeout: 5,
    cluster: { name: "ray", address: ray?.address, count: 1, trusted_network: true },
  };
  const { controller } = await startTraining(runs(), "orphaned", workers, (started) => controllers.push(started));
  expect(await prelortOn(cluster)).toContainEqual(expect.stringContaining("prelort_worker.__main__"));
  controller.kill("SIGKILL");
  await eventually(async () => expect(await prelortOn(cluster)).toEqual([]));
});

test("a plan says what it would ask of the cluster, and what is there", async () => {
  const planned = await plan({ ...tinyRun(runs(), "planned"), workers: { ...onRay(3), beatTimeout: 30 } });
  const { machines, bytesDown } = planned;
  expect(machines?.hosts).toBeNull();
  expect(machines?.cluster).toMatchObject({ address: cluster.url, asked: { min: 3, max: 3 }, workers: nodes.length });
  // An adapter of the highest rank for each round, of which all four clients train a part.
  const largest = Math.max(...planned.clients.map(({ bytesPerFit }) => bytesPerFit.down));
  expect(machines?.bytesDown).toBe(planned.rounds * largest);
  expect(machines?.bytesDown).toBeLessThan(bytesDown);
});

test("an address that no node can reach ends the run before training, with the machine and what to change", async () => {
  const events: RunEvent[] = [];
  const unreachable = { ...onRay(1), advertise: cluster.address.replace(/\d+$/, "250"), beatTimeout: 5 };
  const run = federate({ ...tinyRun(runs(), "unreachable"), workers: unreachable });
  const failed = (async () => {
    for await (const event of run) events.push(event);
  })();
  await expect(failed).rejects.toThrow(ConfigError);
  await expect(run.result).rejects.toThrow(/could not reach the controller[^]*workers\.advertise/);
  expect(events.filter(isReady)).toEqual([]);
});
