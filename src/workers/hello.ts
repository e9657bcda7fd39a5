import { ConfigError } from "../errors.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import type { WorkerHello } from "./task.ts";

export function describeHello(workerId: string, { pid, host, versions, variables, device }: WorkerMessageOf<"hello">): WorkerHello {
  const { memory_bytes: memoryBytes, ...known } = device;
  return { workerId, pid, host, versions, variables, device: { ...known, memoryBytes } };
}

/** Whoever named a device that is missing has to change the config. */
export function deviceError({ message }: WorkerMessageOf<"unavailable">): ConfigError {
  return new ConfigError([{ path: "workers.devices", message }]);
}
