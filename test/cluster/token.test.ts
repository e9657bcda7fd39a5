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
