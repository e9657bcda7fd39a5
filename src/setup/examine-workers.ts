import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import type { RunConfig } from "../config/schema.ts";
import { PrelortError, WorkerError } from "../errors.ts";
import { cacheFolder } from "../installation.ts";
import { launcherOf } from "../server/launcher-of.ts";
import { createSharedMemory } from "../transport/shared-memory.ts";
import { zeromqTransport } from "../transport/zeromq.ts";
import { resolveDevices } from "../workers/devices.ts";
import { createWorkerPool } from "../workers/pool.ts";
import type { WorkerHello } from "../workers/task.ts";
import { type Finding, testedVersions } from "./examine.ts";

/**
 * Starts a worker on each machine that a config lists, or one where a cluster places it, and examines what they say. Trains nothing.
 * A problem becomes a finding.
 */
export async function examineWorkers(config: RunConfig, onWaiting: (what: string) => void, signal: AbortSignal): Promise<Finding[]> {
  const { workers } = config;
  const { transport: kind, host, advertise, ports, beatTimeout, startTimeout, threads, hosts = [""] } = workers;
  const where = workers.cluster ? workers.cluster.address : hosts.filter(Boolean).join(", ") || "this machine";
  const logFolder = path.join(cacheFolder(), "logs", "doctor");
  await rm(logFolder, { recursive: true, force: true });
  await mkdir(logFolder, { recursive: true });
  const memory = createSharedMemory();
  const ready: WorkerHello[] = [];
  try {
    const launcher = await launcherOf(config);
    const devices = await resolveDevices(workers);
    const transport = await zeromqTransport({ kind, host, advertise, ports, joinTimeoutMs: beatTimeout * 1000 });
    const pool = createWorkerPool({
      launcher,
      transport,
      memory,
      devices,
      count: hosts.length,
      least: hosts.length,
      mostDeaths: 1,
      threads,
      retries: 0,
      startTimeoutMs: startTimeout * 1000,
      beatTimeoutMs: beatTimeout * 1000,
      taskTimeoutMs: startTimeout * 1000,
      logFolder,
      signal,
      listener: {
        ready: (worker) => void ready.push(worker),
        status: ({ state, workerId, activity }) => state === "starting" && onWaiting(`${workerId}: ${activity}`),
      },
    });
    try {
      await pool.start();
    } finally {
      try {
        await pool.close({ now: true });
      } finally {
        await transport.close();
      }
    }
    return ready.flatMap((worker) => describeWorker(worker, where));
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof PrelortError)) throw error;
    const remedy = "correct what it names, and run this again";
    const { message } = error.cause instanceof WorkerError ? error.cause : error;
    return [...ready.flatMap((worker) => describeWorker(worker, where)), { name: "workers", status: "missing", found: message, remedy }];
  } finally {
    await memory.close();
  }
}

function describeWorker({ workerId, host, device, versions }: WorkerHello, where: string): Finding[] {
  const expected = testedVersions();
  const differing = Object.entries(versions).filter(([name, found]) => expected.get(name)?.includes(found.split("+")[0] ?? "") === false);
  const { type, name, capability } = device;
  return [
    { name: `worker ${workerId}`, status: "ok", found: `runs on ${host} (${where}) and has reached this controller` },
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
