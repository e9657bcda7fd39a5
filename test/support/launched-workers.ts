import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect } from "vitest";
import { environmentPython } from "../../src/installation.ts";
import { decodeWorkerMessage, encode } from "../../src/protocol/codec.ts";
import type { ControllerMessage, WorkerMessage, WorkerMessageOf } from "../../src/protocol/messages.ts";
import type { Transport } from "../../src/transport/transport.ts";
import { zeromqTransport } from "../../src/transport/zeromq.ts";
import { Channels } from "../../src/workers/channels.ts";
import type { LaunchOptions, OpenLauncher, WorkerLauncher, WorkerProcess } from "../../src/workers/launch.ts";
import { eventually } from "./patience.ts";
import { type Relay, startRelay } from "./relay.ts";

/** A launcher under test, and what is around it. */
export interface Subject {
  /** Its workers run this program instead of Python. */
  launcher(python: string): WorkerLauncher;
  /** Address of this machine for its workers. Default: 127.0.0.1. */
  readonly host?: string;
  /** What there is of it beside its workers, such as jobs; they might end anyway once the controller is gone. */
  rest?(): Promise<readonly string[]>;
  close?(): Promise<void>;
}

export interface UseOptions {
  readonly over: "ipc" | "tcp";
  readonly lease: number;
  readonly python?: string | undefined;
}

/** A launcher in use, as a pool uses it. */
export interface LauncherInUse {
  /** Over tcp, what its connections lead through. */
  readonly relay: Relay;
  /** Launches a worker. It runs `code` instead of importing torch, which comes before its hello. */
  launch(code?: string, options?: Partial<LaunchOptions>): LaunchedWorker;
  /** Kills its workers, and closes it once they are gone. A law in itself: whatever happened to it, nothing of it is left then. */
  close(): Promise<void>;
}

export interface LaunchedWorker extends WorkerProcess {
  readonly id: string;
  /** What has come from it. */
  readonly messages: readonly WorkerMessage[];
  /** For what it was said to wait. */
  readonly waits: readonly string[];
  /** Its first message of this type. */
  heard<T extends WorkerMessage["type"]>(type: T): Promise<WorkerMessageOf<T>>;
  send(message: ControllerMessage): Promise<void>;
  log(): string;
  processes(): readonly RunningProcess[];
}

/** Of a worker: its own, its children's, or one that belongs to the command that started it. */
export interface RunningProcess {
  readonly pid: number;
  /** `T` if it is stopped. */
  readonly state: string;
  readonly line: string;
}

/** Python that never ends by itself. */
export const WAIT = "import signal; signal.pause()";
/** The same with a child, whose command line has the word `child`. */
export const WAIT_WITH_CHILD = `
import subprocess, sys
# As children of multiprocessing, it has none of the worker's input.
subprocess.Popen([sys.executable, "-c", "${WAIT}", "child", *sys.argv[1:]], stdin=subprocess.DEVNULL)
${WAIT}`;

let launches = 0;

export async function useLauncher(
  { launcher, host = "127.0.0.1", rest = async () => [] }: Subject,
  { over, lease, python }: UseOptions,
): Promise<LauncherInUse> {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-laws-"));
  const { transport, relay } = await listen(over, host);
  const channels = new Channels(transport);
  const given = launcher(python ?? writeProgram(folder));
  const used: WorkerLauncher & Partial<OpenLauncher> = given.open?.(channels.open) ?? given;
  const workers = new Map<string, { readonly worker: LaunchedWorker; readonly messages: WorkerMessage[] }>();
  const read = async () => {
    for await (const { peer, frames } of transport.receive()) {
      const known = workers.get(peer);
      if (known) known.messages.push(decodeWorkerMessage(...frames));
      else channels.receive(peer, frames);
    }
  };
  const reading = read();
  return {
    relay,
    launch(code, options) {
      const workerId = `w${launches++}.${process.pid}`;
      if (code !== undefined) writeModule(path.join(folder, workerId), code);
      const { admit, ...door } = transport.open(workerId);
      const [messages, waits, logPath] = [[] as WorkerMessage[], [] as string[], path.join(folder, `${workerId}.log`)];
      const onWaiting = (reason: string) => void waits.push(reason);
      const told = { workerId, index: 0, ...door, lease, device: "cpu", threads: 1, logPath, onWaiting };
      const started = used.launch({ ...told, ...options });
      void started.publicKey?.then(admit);
      const send = (message: ControllerMessage) => transport.send(workerId, ...encode(message));
      const worker = follow(workerId, started, { messages, waits, logPath, send });
      workers.set(workerId, { worker, messages });
      return worker;
    },
    async close() {
      for (const { worker } of workers.values()) worker.kill();
      for (const { worker } of workers.values()) await worker.exited;
      await used.close?.();
      await eventually(async () => expect(await rest()).toEqual([]));
      relay.close();
      await transport.close();
      await reading;
      rmSync(folder, { recursive: true });
    },
  };
}

/** A transport that over tcp is reached through a relay at this address. */
async function listen(over: "ipc" | "tcp", host: string): Promise<{ readonly transport: Transport; readonly relay: Relay }> {
  const transport = await zeromqTransport({ kind: over });
  const { endpoint, close } = transport.open("nobody");
  close();
  const relay = await startRelay(host, over === "tcp" ? Number(new URL(endpoint).port) : 0);
  const relayed = { endpoint: `tcp://${host}:${relay.port}` };
  return { relay, transport: { ...transport, open: (peer) => ({ ...transport.open(peer), ...(over === "tcp" && relayed) }) } };
}

type Followed = Pick<LaunchedWorker, "messages" | "waits" | "send"> & { readonly logPath: string };
function follow(id: string, worker: WorkerProcess, { messages, waits, logPath, send }: Followed): LaunchedWorker {
  const log = () => readFileSync(logPath, "utf8");
  return {
    ...worker,
    id,
    messages,
    waits,
    heard: (type) =>
      eventually(() => {
        const found = messages.find((message) => message.type === type);
        expect(found, `${type} of ${id}, whose log is: ${log()}`).toBeDefined();
        return found as WorkerMessageOf<typeof type>;
      }),
    send,
    log,
    processes: () => processesOf(id),
  };
}

/** Stands for Python: what is in the folder of a worker's name is imported first. */
function writeProgram(folder: string): string {
  const file = path.join(folder, "python");
  const choose = `for word; do [ -d "${folder}/$word" ] && export PYTHONPATH="${folder}/$word:$PYTHONPATH"; done`;
  writeFileSync(file, `#!/bin/sh\n${choose}\nexec "${environmentPython()}" "$@"\n`);
  chmodSync(file, 0o755);
  return file;
}

function writeModule(folder: string, code: string): void {
  mkdirSync(folder);
  writeFileSync(path.join(folder, "torch.py"), code);
}

/** Zombies do not count. */
function processesOf(workerId: string): RunningProcess[] {
  const listing = execFileSync("ps", ["-A", "-ww", "-o", "pid=,state=,args="], { encoding: "utf8" });
  const found = [...listing.matchAll(/^\s*(\d+)\s+(\w)\S*\s+(.*)$/gm)];
  const processes = found.map(([, pid, state = "", line = ""]) => ({ pid: Number(pid), state, line }));
  return processes.filter(({ state, line }) => state !== "Z" && line.includes(` --worker-id ${workerId} `));
}
