import { addressProblem } from "./cluster-address.ts";
import type { Rule } from "./rule.ts";

/* Rules on workers and on when a round closes. */

const oneNumberOfWorkers: Rule = {
  reads: ["workers.count", "workers.slotsPerDevice"],
  check({ workers: { count, slotsPerDevice } }, report) {
    if (count === undefined || slotsPerDevice === undefined) return;
    const message = "cannot be combined with workers.count, the total number of workers: set only one of them";
    report(["workers", "slotsPerDevice"], message);
  },
};

const noIdleDevice: Rule = {
  reads: ["workers.count", "workers.devices", "workers.hosts"],
  check({ workers: { count, devices, hosts = [""] } }, report) {
    const needed = devices.length * hosts.length;
    if (count === undefined || devices === "auto" || count >= needed) return;
    const where = hosts.length > 1 ? "for each of workers.devices on each of workers.hosts" : "for each of workers.devices";
    report(["workers", "count"], `must be at least ${needed}, one worker ${where}, got ${count}`);
  },
};

const quorumIsEnough: Rule = {
  reads: ["closing"],
  check({ closing: { quorum, enough } }, report) {
    if (quorum === undefined || enough === undefined || quorum <= enough) return;
    report(["closing", "enough"], `must be at least closing.quorum (${quorum}), got ${enough}`);
  },
};

const addressesGoWithTcp: Rule = {
  reads: ["workers"],
  check({ workers }, report) {
    if (workers.transport === "tcp") return;
    for (const key of ["host", "advertise", "ports", "command"] as const) {
      if (workers[key] !== undefined) report(["workers", key], "needs workers.transport: tcp");
    }
  },
};

const advertisedAddress: Rule = {
  reads: ["workers"],
  check({ workers: { host, advertise } }, report) {
    if (advertise !== undefined || (host !== "0.0.0.0" && host !== "::")) return;
    report(
      ["workers", "host"],
      `stands for every address of this machine: set workers.advertise to the one that workers should connect to`,
    );
  },
};

const portsAscend: Rule = {
  reads: ["workers.ports"],
  check({ workers: { ports } }, report) {
    const [first, last] = ports ?? [];
    if (first !== undefined && last !== undefined && first > last)
      report(["workers", "ports"], `must be the first port and the last, got [${first}, ${last}]`);
  },
};

const commandIsWhole: Rule = {
  reads: ["workers"],
  check({ workers: { command, hosts, devices } }, report) {
    const namesHost = command?.some((word) => word.includes("{host}")) ?? false;
    if (namesHost && !hosts) report(["workers", "command"], "names {host}: list the hosts in workers.hosts");
    if (hosts && !namesHost) report(["workers", "hosts"], "needs {host} in workers.command, such as [ssh, '{host}']");
    if (!command || devices !== "auto") return;
    report(["workers", "command"], "needs workers.devices, such as [cuda:0] or [cpu]: devices of another machine are not looked up");
  },
};

const clusterChoosesMachines: Rule = {
  reads: ["workers"],
  check({ workers }, report) {
    if (!workers.cluster) return;
    if (workers.transport !== "tcp") report(["workers", "cluster"], "needs workers.transport: tcp");
    for (const key of ["command", "hosts", "count", "slotsPerDevice", "devices"] as const) {
      if (workers[key] === undefined || workers[key] === "auto") continue;
      report(["workers", key], "cannot be combined with workers.cluster, which has resources and count: leave it out");
    }
  },
};

const clusterKnowsResources: Rule = {
  reads: ["workers.cluster"],
  check({ workers: { cluster } }, report) {
    for (const name of Object.keys(cluster?.resources ?? {})) {
      const [, meant] = /^(cpu|gpu)s?$/i.exec(name) ?? [];
      if (meant === undefined || name === meant.toUpperCase()) continue;
      report(["workers", "cluster", "resources", name], `is not what Ray calls it: write ${meant.toUpperCase()}`);
    }
  },
};

const clusterIsReachedSafely: Rule = {
  reads: ["workers.cluster"],
  check({ workers: { cluster } }, report) {
    const problem = cluster && addressProblem(cluster.address, cluster.trustedNetwork);
    if (problem !== undefined) report(["workers", "cluster", "address"], problem);
  },
};

const clusterGetsOurCode: Rule = {
  reads: ["workers.cluster"],
  check({ workers: { cluster } }, report) {
    const { count, runtimeEnv = {} } = cluster ?? {};
    if (typeof count === "object" && count.min > count.max)
      report(["workers", "cluster", "count", "min"], `must be at most max (${count.max}), got ${count.min}`);
    if ("working_dir" in runtimeEnv)
      report(["workers", "cluster", "runtimeEnv", "working_dir"], "is where prelort puts its own code: leave it out");
  },
};

export const workerRules: readonly Rule[] = [
  quorumIsEnough,
  oneNumberOfWorkers,
  noIdleDevice,
  addressesGoWithTcp,
  advertisedAddress,
  portsAscend,
  clusterChoosesMachines,
  commandIsWhole,
  clusterKnowsResources,
  clusterIsReachedSafely,
  clusterGetsOurCode,
];
