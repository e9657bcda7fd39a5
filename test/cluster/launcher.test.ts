import { rayLauncher } from "../../src/ray/ray-launcher.ts";
import { launcherLaws } from "../support/launcher-laws.ts";
import { canMakeNamespaceHosts, loopbackHosts, namespaceHosts } from "../support/ray-hosts.ts";
import { prelortOn, startRay } from "../support/ray.ts";

/* The laws that test/conformance/launchers.test.ts has for the others. */

launcherLaws("of workers on Ray", { over: "tcp", shortestLease: 8, places: 2 }, async () => {
  const cluster = await startRay({ hosts: canMakeNamespaceHosts() ? namespaceHosts(2) : loopbackHosts });
  await cluster.addNode({ cpus: 2 });
  return {
    launcher: (python) => rayLauncher({ address: cluster.url, python, isTrusted: true }),
    host: cluster.address,
    rest: () => prelortOn(cluster),
    close: cluster.close,
  };
});
