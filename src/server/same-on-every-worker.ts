import { ConfigError, RefusedError } from "../errors.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import { sourceChanges } from "../records/model-source.ts";
import type { Reply, WorkerHello } from "../workers/task.ts";

type Prepared = WorkerMessageOf<"prepared">;

/** The same config, seed and data give the same file on every machine. */
export function requireSameData({ sha256 }: Prepared["index"], workerId: string, { index }: Prepared): void {
  if (index.sha256 === sha256) return;
  throw new RefusedError(`the data that worker ${workerId} prepared on its machine`, `SHA-256 ${sha256}`, index.sha256);
}

/** Other kinds of processors or GPUs compute other bytes, which then depend on which worker trains which client. */
export function requireSameDevice(first: WorkerHello, { workerId, host, device }: WorkerHello): void {
  const describe = ({ type, name, capability }: WorkerHello["device"]) => [name, type, capability].filter(Boolean).join(", ");
  const [expected, received] = [describe(first.device), describe(device)];
  if (expected === received) return;
  const message =
    `worker ${workerId} on ${host} has another device (${received}) than worker ${first.workerId} on ${first.host} (${expected}), ` +
    "so the bytes would depend on which worker trains which client: use devices of one kind, or set workers.mixed_devices: true";
  throw new ConfigError([{ path: "workers.mixedDevices", message }]);
}

/** Workers that loaded different models (another version, another cache) must not train one adapter together. */
export function requireSameModel(first: Reply<"load">, reply: Reply<"load">): void {
  const subject = `the model that worker ${reply.workerId} loaded`;
  const changes = sourceChanges(first.message.source, reply.message.source);
  if (changes.length > 0) throw new RefusedError(subject, `the one of worker ${first.workerId}`, `another: ${changes.join("; ")}`);
  const describe = ({ message, payload }: Reply<"load">) =>
    JSON.stringify([
      message.modules,
      message.dense,
      message.n_parameters,
      message.tensors.map((tensor) => tensor.crc32),
      payload.dense?.length ?? 0,
    ]);
  const [expected, received] = [describe(first), describe(reply)];
  if (expected !== received) {
    throw new RefusedError(subject, `the one of worker ${first.workerId}: ${expected.slice(0, 500)}`, received.slice(0, 500));
  }
}
