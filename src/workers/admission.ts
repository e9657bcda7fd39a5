import { isPublicKey } from "../transport/keys.ts";
import type { Door } from "../transport/transport.ts";
import type { Deadline } from "./deadline.ts";
import type { WorkerLauncher, WorkerProcess } from "./launch.ts";
import type { WorkerStatus } from "./task.ts";

interface Starting {
  readonly launcher: WorkerLauncher;
  /** When the worker is late. */
  readonly start: Deadline;
  report(activity: string): void;
}

/** Over tcp: lists a worker's key as soon as its launcher has learnt it. Until then, a remote worker has no deadline. */
export async function admit(
  { publicKey }: WorkerProcess,
  door: Door,
  worker: { status(): WorkerStatus; kill(problem: string): void },
  { launcher: { isRemote }, start, report }: Starting,
): Promise<void> {
  if (!publicKey) return worker.kill("its launcher gave no public key, which tcp needs");
  if (isRemote) {
    start.clear();
    report("waiting for its process to start");
  }
  const key = await publicKey;
  if (worker.status().state !== "starting") return;
  if (!isPublicKey(key)) return worker.kill("its launcher gave a public key that is not 40 characters of Z85");
  door.admit(key);
  start.restart();
  report("starting");
}
