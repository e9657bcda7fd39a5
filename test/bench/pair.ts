import { spawn } from "node:child_process";
import path from "node:path";
import { setImmediate } from "node:timers/promises";
import { curveKeyPair, Pull, Push } from "zeromq";

/**
 * A PUSH and a PULL socket of this process and of a Python process, which sends every frame back: what ZeroMQ moves between
 * the two languages if nothing else is done with it.
 *
 *   node pair.js '{"through": "tcp", "frameBytes": 67108864, "count": 10, …}'
 */
export interface PairAsked {
  /** With CURVE over tcp, as a worker. */
  readonly through: "ipc" | "tcp";
  readonly frameBytes: number;
  /** Frames of a pass, each way. */
  readonly count: number;
  readonly passes: number;
  readonly folder: string;
  readonly python: string;
  /** The script of its other end. */
  readonly peer: string;
}

/** Its output. */
export interface PairTold {
  readonly passMs: readonly number[];
}

const asked = JSON.parse(process.argv[2] ?? "") as PairAsked;
const server = curveKeyPair();
const security = asked.through === "tcp" ? { curveServer: true, curveSecretKey: server.secretKey } : {};
const push = new Push({ sendHighWaterMark: 0, linger: 0, ...security });
const pull = new Pull({ receiveHighWaterMark: 0, linger: 0, ...security });
for (const [name, socket] of [["down", push] as const, ["up", pull] as const])
  await socket.bind(asked.through === "tcp" ? "tcp://127.0.0.1:*" : `ipc://${path.join(asked.folder, name)}`);
const words = [asked.peer, push.lastEndpoint ?? "", pull.lastEndpoint ?? "", ...(asked.through === "tcp" ? [server.publicKey] : [])];
const other = spawn(asked.python, words, { stdio: "inherit" });
await pull.receive();

const frame = Buffer.alloc(asked.frameBytes, 1);
const passMs: number[] = [];
for (let pass = 0; pass < asked.passes; pass++) {
  const start = performance.now();
  const received = receiveAll();
  for (let sent = 0; sent < asked.count; sent++) await push.send(frame);
  await received;
  passMs.push(performance.now() - start);
}
other.kill();
process.stdout.write(`${JSON.stringify({ passMs } satisfies PairTold)}\n`);
process.exit();

async function receiveAll(): Promise<void> {
  for (let count = 0; count < asked.count; count++) {
    const [received] = await pull.receive();
    if (received?.length !== frame.length) throw new Error(`a frame of ${received?.length} bytes came back`);
    await setImmediate();
  }
}
