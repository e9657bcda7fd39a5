import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { timedRayLauncher, type RayLauncherOptions } from "../../src/ray/ray-launcher.ts";
import { JOB_TIMES, type JobTimes } from "../../src/ray/ray-job.ts";
import { tcpTransport } from "../../src/transport/tcp.ts";
import { Channels } from "../../src/workers/channels.ts";
import type { OpenLauncher, WorkerProcess } from "../../src/workers/launch.ts";

export interface OpenedRay {
  readonly launcher: OpenLauncher;
  /** The reasons for waiting that a worker's launch was told. */
  readonly waits: Map<string, string[]>;
  readonly logOf: (workerId: string) => string;
  launch(workerId: string): WorkerProcess;
}

/** A Ray launcher that is open as in a pool, over a real transport, which looks often. */
export async function openRay(options: RayLauncherOptions, times: Partial<JobTimes> = {}): Promise<OpenedRay> {
  const folder = await mkdtemp(join(tmpdir(), "ray-"));
  const transport = tcpTransport();
  const channels = new Channels(transport);
  const launcher = timedRayLauncher(options, { ...JOB_TIMES, comingUpMs: 10, runningMs: 20, ...times }).open?.(channels.open);
  if (!launcher) throw new Error("unreachable: a Ray launcher opens");
  const read = async () => {
    for await (const { peer, frames } of transport.receive()) channels.receive(peer, frames);
  };
  const reading = read();
  onTestFinished(async () => {
    await launcher.close();
    await transport.close();
    await reading;
    await rm(folder, { recursive: true });
  });
  const waits = new Map<string, string[]>();
  const logOf = (workerId: string) => join(folder, `${workerId}.log`);
  return {
    launcher,
    waits,
    logOf,
    launch(workerId) {
      const told: string[] = [];
      waits.set(workerId, told);
      const endpoint = "tcp://127.0.0.1:1";
      const onWaiting = (reason: string) => void told.push(reason);
      const place = { workerId, index: 0, endpoint, device: "cuda:7", threads: 2, lease: 9 };
      return launcher.launch({ ...place, logPath: logOf(workerId), onWaiting });
    },
  };
}
