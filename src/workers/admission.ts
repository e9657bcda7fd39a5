import { RefusedError } from "../errors.ts";
import { SESSION } from "../protocol/limits.ts";
import type { ControllerMessage } from "../protocol/messages.ts";
import { isPublicKey } from "../transport/keys.ts";
import type { Door } from "../transport/transport.ts";
import type { Deadline } from "./deadline.ts";
import type { WorkerLauncher, WorkerProcess } from "./launch.ts";
import { isServing, type WorkerStatus } from "./task.ts";

/** A remote worker may wait in a queue before its process starts. */
export function startingStatus(workerId: string, { isRemote }: WorkerLauncher): WorkerStatus {
  const activity = isRemote ? "waiting for its process to start" : "starting";
  return { workerId, state: "starting", activity, task: null, taskId: null, step: 0, steps: 0 };
}

/** Over tcp: lists a worker's key as soon as its launcher has learnt it. Its time to start counts from then on. */
export async function admit(
  { publicKey }: WorkerProcess,
  door: Door,
  worker: { status(): WorkerStatus; kill(problem: string): void },
  start: Deadline,
): Promise<void> {
  if (!publicKey) return worker.kill("its launcher gave no public key, which tcp needs");
  const key = await publicKey;
  if (worker.status().state !== "starting") return;
  if (!isPublicKey(key)) return worker.kill("its launcher gave a public key that is not 40 characters of Z85");
  door.admit(key);
  start.restart();
}

/** A worker elsewhere that has lost its connection ends, and does not come back: its process may be gone with its machine. */
export async function probe(
  worker: { status(): WorkerStatus; kill(problem: string, options: { readonly isLost: boolean }): void },
  send: (message: ControllerMessage) => Promise<void>,
): Promise<void> {
  if (!isServing(worker.status())) return;
  try {
    await send(NOTHING);
  } catch (error) {
    if (error instanceof RefusedError) worker.kill("lost its connection", { isLost: true });
  }
}

/** Nothing happens if it arrives. */
const NOTHING: ControllerMessage = { ...SESSION, type: "cancel", task_id: "none", attempt: 1 };
