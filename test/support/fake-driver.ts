import { curveKeyPair, Dealer } from "zeromq";
import { decodeControllerMessage, encodeWorkerMessage } from "../../src/protocol/codec.ts";
import { SESSION } from "../../src/protocol/limits.ts";
import type { ControllerMessage, ControllerMessageOf, WorkerMessage } from "../../src/protocol/messages.ts";
import { join, newRoutingId, securityOf } from "../../src/testing/join.ts";
import { tinyLauncher } from "../../src/testing/launcher.ts";
import type { WorkerProcess } from "../../src/workers/launch.ts";
import type { FakeJob } from "./fake-jobs-server.ts";

/** The driver of a job on Ray, in this process: it joins as the real one does. */
export interface FakeDriver {
  readonly job: FakeJob;
  /** The options of its command line. */
  readonly options: Readonly<Record<string, string>>;
  /** What the controller has sent. */
  readonly received: ControllerMessage[];
  send(message: Omit<WorkerMessage, "protocol_version"> & { readonly type: string }): void;
  placed(workerId: string, place?: { readonly host?: string; readonly node?: string; readonly publicKey?: string | undefined }): void;
  /** Sends these bytes as a message. */
  sendRaw(frame: Uint8Array): void;
  /** Ends as a process that is killed: its connection is lost. */
  die(): void;
}

type Handle = (message: ControllerMessage, driver: FakeDriver) => void;

function endOnStop(message: ControllerMessage, { job }: FakeDriver): void {
  if (message.type === "stop") job.status = "SUCCEEDED";
}

/** Runs the driver of a submitted job: prints its key and joins. `handle` is called for each message, `lose` when it dies. */
export function fakeDriver(job: FakeJob, handle: Handle = endOnStop, lose = () => {}): FakeDriver {
  const options = optionsOf(job.entrypoint);
  const { endpoint = "", "worker-id": workerId = "", "server-key": serverKey = "" } = options;
  const access = { serverKey, ...curveKeyPair() };
  const routingId = newRoutingId();
  const dealer = new Dealer({ routingId, linger: 0, ...securityOf(access) });
  job.status = "RUNNING";
  job.log += `Running entrypoint for job ${job.id}: ${job.entrypoint}\nprelort-key ${access.publicKey}\n`;
  dealer.connect(endpoint);
  let lastSend: Promise<unknown> = join(dealer, { workerId, routingId }, access);
  lastSend.catch(() => {}); // a test may end before it has joined
  const joined = lastSend;
  const driver: FakeDriver = {
    job,
    options,
    received: [],
    send(message) {
      const frames = encodeWorkerMessage({ ...SESSION, ...message } as WorkerMessage);
      lastSend = lastSend.then(() => dealer.send([...frames])).catch(() => {});
    },
    sendRaw: (frame) => void (lastSend = lastSend.then(() => dealer.send(frame)).catch(() => {})),
    placed(worker, { host = "gpu-1", node = "n1", publicKey = curveKeyPair().publicKey } = {}) {
      driver.send({ type: "placed", worker_id: worker, host, node, public_key: publicKey } as never);
    },
    die() {
      dealer.close();
      lose();
      job.status = "FAILED";
      job.message = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\nprelort-key";
    },
  };
  const serve = async () => {
    await joined;
    for await (const frames of dealer) {
      const message = decodeControllerMessage(...frames);
      driver.received.push(message);
      handle(message, driver);
    }
  };
  serve().catch(() => {});
  return driver;
}

/** A driver that starts tiny workers in this process, on two nodes in turn. Workers of one launcher know the same data. */
export function servingDriver(job: FakeJob, launcher = tinyLauncher()): FakeDriver {
  const workers = new Map<string, WorkerProcess>();
  const start = async ({ worker_id: workerId, device, threads }: ControllerMessageOf<"launch">, driver: FakeDriver) => {
    const { endpoint = "", "server-key": serverKey, lease } = driver.options;
    const worker = launcher.launch({ workerId, index: 0, endpoint, serverKey, lease: Number(lease), device, threads, logPath: "" });
    workers.set(workerId, worker);
    const node = `n${workers.size % 2}`;
    driver.placed(workerId, { host: `host-${node}`, node, publicKey: await worker.publicKey });
    const { exitCode = null, signal = null, problem = null } = await worker.exited;
    workers.delete(workerId);
    driver.send({ type: "exited", worker_id: workerId, exit_code: exitCode, signal, problem, log: "" } as never);
  };
  const endAll = () => {
    for (const worker of workers.values()) worker.kill();
  };
  const handle: Handle = (message, driver) => {
    if (message.type === "launch") void start(message, driver);
    if (message.type === "kill") workers.get(message.worker_id)?.kill();
    if (message.type === "stop") endAll();
    endOnStop(message, driver);
  };
  return fakeDriver(job, handle, endAll);
}

/** Of a command line in which words may be quoted as for a shell. */
function optionsOf(entrypoint: string): Record<string, string> {
  const words = [...entrypoint.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "");
  const options = words.map((word) => /^--([\w-]+)=(.*)$/.exec(word)).filter((option) => option !== null);
  return Object.fromEntries(options.map(([, name, value]) => [name, value])) as Record<string, string>;
}
