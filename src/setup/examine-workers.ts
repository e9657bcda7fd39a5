import type { RunConfig } from "../config/schema.ts";
import { createDeferred } from "../base/deferred.ts";
import { ConfigError } from "../errors.ts";
import { makeLogFolder } from "../server/log-folder.ts";
import { openPool } from "../server/open-pool.ts";
import { requireSameDevice } from "../server/same-on-every-worker.ts";
import type { WorkerHello } from "../workers/task.ts";
import { type Finding, testedVersions } from "./examine.ts";

/**
 * Starts a worker on each machine that a config lists, or one where a cluster places it, and examines what they say. Trains nothing.
 * A problem of a machine becomes a finding; what the config has to change rejects with a ConfigError.
 */
export async function examineWorkers(config: RunConfig, onWaiting: (what: string) => void, signal: AbortSignal): Promise<Finding[]> {
  const { hosts = [""], mixedDevices } = config.workers;
  const logFolder = await makeLogFolder("doctor");
  const findings = new Map<string, Finding[]>();
  const ready: WorkerHello[] = [];
  const settled = createDeferred<void>();
  const settle = (workerId: string, found: Finding[]) => {
    findings.set(workerId.replace(/\..*/, ""), found);
    if (findings.size === hosts.length) settled.resolve();
  };
  const { pool, close } = await openPool(config, {
    count: hosts.length,
    least: 1,
    mostDeaths: 1,
    logFolder,
    signal,
    listener: {
      ready(worker) {
        const [first = worker] = ready;
        ready.push(worker);
        settle(worker.workerId, [...describeWorker(worker), ...(mixedDevices ? [] : compareDevices(first, worker))]);
      },
      givenUp: ({ workerId, error }) =>
        settle(workerId, [{ name: `worker ${workerId}`, status: "missing", found: error.message, remedy: REMEDY }]),
      status: ({ state, workerId, activity }) => state === "starting" && onWaiting(`${workerId}: ${activity}`),
    },
  });
  try {
    await Promise.race([settled.promise, pool.start().then(() => settled.promise)]).catch((error: unknown) => {
      if (findings.size < hosts.length) throw error;
    });
  } finally {
    await close({ now: true });
  }
  return [...findings].toSorted(([a], [b]) => Number(a.slice(1)) - Number(b.slice(1))).flatMap(([, found]) => found);
}

const REMEDY = "correct what it names, and run this again";

function compareDevices(first: WorkerHello, worker: WorkerHello): Finding[] {
  try {
    requireSameDevice(first, worker);
    return [];
  } catch (error) {
    const [issue] = error instanceof ConfigError ? error.issues : [];
    if (!issue) throw error;
    return [{ name: "devices", status: "missing", found: issue.message, remedy: REMEDY }];
  }
}

function describeWorker({ workerId, host, device, versions }: WorkerHello): Finding[] {
  const expected = testedVersions();
  const differing = Object.entries(versions).filter(([name, found]) => expected.get(name)?.includes(found.split("+")[0] ?? "") === false);
  const { type, name, capability } = device;
  return [
    { name: `worker ${workerId}`, status: "ok", found: `runs on ${host} and has reached this controller` },
    { name: `${host}: device`, status: "info", found: [type, name, capability].filter(Boolean).join(", ") },
    { name: `${host}: Python`, status: "info", found: versions["python"] ?? "unknown" },
    ...(differing.length === 0
      ? [{ name: `${host}: packages`, status: "ok" as const, found: "the tested versions" }]
      : differing.map(([name, found]) => ({
          name: `${host}: ${name}`,
          status: "differs" as const,
          found,
          expected: expected.get(name)?.join(" or ") ?? "",
          remedy: `install the tested version on ${host}`,
        }))),
  ];
}
