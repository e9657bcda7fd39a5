import { mkdir } from "node:fs/promises";
import type { RunConfig } from "../config/schema.ts";
import { environmentPython } from "../installation.ts";
import { rayLauncher } from "../ray/ray-launcher.ts";
import { createSharedMemory } from "../transport/shared-memory.ts";
import { zeromqTransport } from "../transport/zeromq.ts";
import { countWorkers, leastWorkers, resolveDevices } from "../workers/devices.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import { createWorkerPool, type PoolOptions } from "../workers/pool.ts";
import { processLauncher } from "../workers/process-launcher.ts";
import { findPython, requirePython } from "../workers/python.ts";
import type { WorkerPool } from "../workers/task.ts";

/** Workers that have not been started, and all that they need. */
export interface OpenPool {
  readonly pool: WorkerPool;
  /** Ends the workers and removes the socket. Safe to call twice. */
  close(options?: { readonly now?: boolean }): Promise<void>;
}

type OpenPoolOptions = Pick<PoolOptions, "logFolder" | "signal"> & Partial<PoolOptions>;

/** The workers that a config describes. What is given in `options` replaces what the config says. */
export async function openPool(config: Pick<RunConfig, "workers" | "name">, { launcher, ...options }: OpenPoolOptions): Promise<OpenPool> {
  const { transport: kind, host, advertise, ports, threads, retries, startTimeout, beatTimeout, taskTimeout } = config.workers;
  const starting = launcher ?? (await launcherOf(config));
  const devices = await resolveDevices(config.workers);
  await mkdir(options.logFolder, { recursive: true });
  const transport = await zeromqTransport({ kind, host, advertise, ports, joinTimeoutMs: beatTimeout * 1000 });
  const memory = createSharedMemory();
  const pool = createWorkerPool({
    launcher: starting,
    transport,
    memory,
    devices,
    count: countWorkers(devices, config.workers),
    least: leastWorkers(config.workers),
    threads,
    retries,
    startTimeoutMs: startTimeout * 1000,
    beatTimeoutMs: beatTimeout * 1000,
    taskTimeoutMs: taskTimeout * 1000,
    ...options,
  });
  return {
    pool,
    async close(how) {
      try {
        await pool.close(how);
      } finally {
        await Promise.all([transport.close(), memory.close()]);
      }
    },
  };
}

/** What starts the workers that a config describes. Rejects with an EnvironmentError if this machine lacks what that needs. */
async function launcherOf({
  name,
  workers: { cluster, command: through, hosts, python: asked },
}: Parameters<typeof openPool>[0]): Promise<WorkerLauncher> {
  if (cluster) return rayLauncher({ ...cluster, python: asked, run: name, isTrusted: cluster.trustedNetwork });
  // What a command starts may be on a machine where only the path is the same.
  if (through) return processLauncher({ command: asked ?? environmentPython(), through, hosts });
  const python = findPython(asked);
  await requirePython(python);
  return processLauncher({ command: python });
}
