import { afterEach, expect, test } from "vitest";
import { environmentPython } from "../../src/installation.ts";
import { eventually } from "../support/patience.ts";
import { startDriver } from "../support/ray-driver.ts";
import { canMakeNamespaceHosts, loopbackHosts, namespaceHosts } from "../support/ray-hosts.ts";
import { type RayCluster, type RayOptions, startRay } from "../support/ray.ts";

const areHosts = canMakeNamespaceHosts();
const python = environmentPython();
const clusters: RayCluster[] = [];
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.close();
});

async function start(options: RayOptions = {}): Promise<RayCluster> {
  const cluster = await startRay({ hosts: areHosts ? namespaceHosts(2) : loopbackHosts, ...options });
  clusters.push(cluster);
  return cluster;
}

test("a cluster that asks for a token runs workers, and refuses who has none", async () => {
  const cluster = await start({ token: "a-token-of-this-test-0123456789abcdef" });
  const statuses = [null, "another"].map(async (other) => (await cluster.request("GET", "/api/jobs/", undefined, other)).status);
  expect(await Promise.all(statuses)).toEqual([401, 403]);
  await cluster.addNode();
  const driver = await startDriver(cluster, { python });
  await driver.launch("w0");
  await driver.heard("hello", "w0");
  await driver.stop();
  await eventually(async () => expect(await driver.status()).toBe("SUCCEEDED"));
  await driver.vanish();
});

test("what launches need is asked of Ray's autoscaler, and nodes that it adds take them", async () => {
  const cluster = await start({ autoscaler: { cpus: 2, maxNodes: 2 } });
  const driver = await startDriver(cluster, { python, resources: { num_cpus: 2 } });
  for (const worker of ["w0", "w1", "w2"]) await driver.launch(worker);
  const placed = [await driver.told("placed", "w0"), await driver.told("placed", "w1")];
  expect(new Set(placed.map(({ node }) => node)).size).toBe(2);
  const reasons = driver.from("launcher-0").flatMap((message) => (message.type === "waiting" ? [message.reason] : []));
  expect(reasons).toContainEqual(expect.stringMatching(/; autoscaler: [12] nodes? pending$/));
  await eventually(() => expect(driver.from("launcher-0").at(-1)).toMatchObject({ type: "waiting", reason: "Ray has 0 of 4 CPU free" }));
  await driver.kill("w0");
  await driver.told("placed", "w2");
  await driver.stop();
  await driver.vanish();
});
