import { expect } from "vitest";
import { workersFolder } from "../../src/installation.ts";
import { decodeWorkerMessage, encode } from "../../src/protocol/codec.ts";
import { SESSION } from "../../src/protocol/limits.ts";
import type { ControllerMessage, WorkerMessage, WorkerMessageOf } from "../../src/protocol/messages.ts";
import { tcpTransport } from "../../src/transport/tcp.ts";
import { eventually } from "./patience.ts";
import { fieldsOf, type RayCluster } from "./ray.ts";
import { startRelay } from "./relay.ts";

export interface DriverOptions {
  readonly lease?: number;
  /** Of each worker. */
  readonly resources?: Readonly<Record<string, unknown>>;
  /** Of the workers. */
  readonly python: string;
}

/** The job of a driver, and its controller's end of the wire: what a launcher does, step by step. */
export interface Driver {
  readonly job: string;
  /** All that has come from this peer, in order. */
  from(peer: string): readonly WorkerMessage[];
  launch(
    workerId: string,
    options?: { readonly device?: string; readonly avoid?: readonly string[]; readonly lease?: number },
  ): Promise<void>;
  send(peer: string, message: ControllerMessage): Promise<void>;
  kill(workerId: string): Promise<void>;
  stop(): Promise<void>;
  /** The first of the driver's messages of this type about this worker. */
  told<T extends "placed" | "exited">(type: T, workerId: string): Promise<WorkerMessageOf<T>>;
  /** The first message of this type from a worker. */
  heard<T extends WorkerMessage["type"]>(type: T, workerId: string): Promise<WorkerMessageOf<T>>;
  status(): Promise<string>;
  log(): Promise<string>;
  /** As if the controller were killed: its connections end, and nobody answers at its address. */
  vanish(): Promise<void>;
}

let drivers = 0;
const PEER = "launcher-0";

export async function startDriver(
  cluster: RayCluster,
  { lease = 10, resources = { num_cpus: 1 }, python }: DriverOptions,
): Promise<Driver> {
  const transport = tcpTransport({ joinTimeoutMs: 1000 * lease });
  const door = transport.open(PEER);
  const relay = await startRelay(cluster.address, Number(new URL(door.endpoint).port));
  const words = {
    endpoint: `tcp://${cluster.address}:${relay.port}`,
    "worker-id": PEER,
    "server-key": door.serverKey ?? "",
    lease,
    resources: JSON.stringify(resources),
    python,
  };
  const options = Object.entries(words).map(([name, value]) => `--${name}='${value}'`);
  const job = `prelort-test-${process.pid}-${drivers++}`;
  const entrypoint = ["python", `${workersFolder()}/run.py`, "prelort_worker.cluster.driver", ...options].join(" ");
  const runtime = { env_vars: { PYTHONPATH: workersFolder() } };
  fieldsOf(await cluster.request("POST", "/api/jobs/", { submission_id: job, entrypoint, runtime_env: runtime }));

  const doors = new Map<string, { admit(publicKey: string): void }>();
  const messages: { readonly peer: string; readonly message: WorkerMessage }[] = [];
  void (async () => {
    for await (const { peer, frames } of transport.receive()) {
      const message = decodeWorkerMessage(...frames);
      messages.push({ peer, message });
      if (message.type === "placed") doors.get(message.worker_id)?.admit(message.public_key);
    }
  })();
  const status = async () => String(fieldsOf(await cluster.request("GET", `/api/jobs/${job}`))["status"]);
  const log = async () => String(fieldsOf(await cluster.request("GET", `/api/jobs/${job}/logs`))["logs"]);
  const about = <T extends WorkerMessage["type"]>(type: T, peer: string, workerId?: string) =>
    eventually(() => {
      const found = messages.find(
        ({ peer: from, message }) =>
          from === peer && message.type === type && (workerId === undefined || ("worker_id" in message && message.worker_id === workerId)),
      );
      expect(found, `${type} of ${workerId ?? peer}, after ${messages.map(({ message }) => message.type).join(", ")}`).toBeDefined();
      return found?.message as WorkerMessageOf<T>;
    });
  const send = (peer: string, message: ControllerMessage) => transport.send(peer, ...encode(message));

  const key = await eventually(async () => {
    const text = await log();
    const found = /^prelort-key (\S{40})$/m.exec(text)?.[1];
    expect(found, `${await status()}: ${text}`).toBeDefined();
    return found ?? "";
  });
  door.admit(key);
  await about("waiting", PEER);
  return {
    job,
    from: (peer) => messages.filter((each) => each.peer === peer).map(({ message }) => message),
    async launch(workerId, { device = "cpu", avoid = [] } = {}) {
      doors.set(workerId, transport.open(workerId));
      await send(PEER, { ...SESSION, type: "launch", worker_id: workerId, device, threads: 1, avoid: [...avoid] });
    },
    send,
    kill: (workerId) => send(PEER, { ...SESSION, type: "kill", worker_id: workerId }),
    stop: () => send(PEER, { ...SESSION, type: "stop" }),
    told: (type, workerId) => about(type, PEER, workerId),
    heard: (type, workerId) => about(type, workerId),
    status,
    log,
    async vanish() {
      relay.close();
      await transport.close();
    },
  };
}
