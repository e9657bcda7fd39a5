import { crc32 } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { RefusedError } from "../../src/errors.ts";
import type { Frames } from "../../src/protocol/codec.ts";
import { memoryTransport, type Peer } from "../support/memory-transport.ts";
import type { Door, Transport } from "../../src/transport/transport.ts";
import { zeromqTransport } from "../../src/transport/zeromq.ts";
import { enter } from "../support/dealer.ts";

interface Subject {
  readonly transport: Transport;
  connect(name: string): Peer;
}

async function zeromqSubject(kind: "ipc" | "tcp"): Promise<Subject> {
  const transport = await zeromqTransport({ kind });
  return { transport, connect: (name) => dealer(transport.open(name), name) };
}

function memorySubject(): Promise<Subject> {
  const transport = memoryTransport();
  return Promise.resolve({ transport, connect: transport.connect });
}

function dealer(door: Door, name: string): Peer {
  const entered = enter(door, name);
  return {
    send: async (...frames) => (await entered).dealer.send([...frames]),
    async *receive() {
      for await (const frames of (await entered).dealer) yield frames.map((frame) => new Uint8Array(frame));
    },
    close: async () => (await entered).dealer.close(),
  };
}

const bytes = (...values: number[]) => Uint8Array.from(values);
const subjects: [string, () => Promise<Subject>][] = [
  ["memory", memorySubject],
  ["zeromq over ipc", () => zeromqSubject("ipc")],
  ["zeromq over tcp, with keys,", () => zeromqSubject("tcp")],
];

describe.each(subjects)("the transport %s", (_, make) => {
  const opened: { close(): Promise<void> }[] = [];
  afterEach(async () => {
    for (const item of opened.splice(0)) await item.close();
  });

  /** A transport, and peers that have each sent one frame. */
  async function open(...names: string[]) {
    const { transport, connect } = await make();
    opened.push(transport);
    const messages = transport.receive()[Symbol.asyncIterator]();
    const peers: Peer[] = [];
    for (const name of names) {
      const peer = connect(name);
      opened.push(peer);
      // A worker joins while somebody reads.
      const [first] = await Promise.all([messages.next(), peer.send(bytes(0))]);
      expect(first).toEqual({ done: false, value: { peer: name, frames: [bytes(0)] } });
      peers.push(peer);
    }
    return { transport, messages, peers };
  }
  const take = async (peer: Peer | undefined, count: number) => {
    const taken: Frames[] = [];
    if (!peer) throw new Error("no such peer");
    for await (const frames of peer.receive()) if (taken.push(frames) === count) break;
    return taken;
  };

  test("delivers frames to their peer in order, even if the calls overlap", async () => {
    const { transport, peers } = await open("a", "b");
    await Promise.all(Array.from({ length: 50 }, (_, i) => transport.send(i % 2 === 0 ? "a" : "b", bytes(i))));
    expect(await take(peers[0], 25)).toEqual(Array.from({ length: 25 }, (_, i) => [bytes(2 * i)]));
    expect(await take(peers[1], 25)).toEqual(Array.from({ length: 25 }, (_, i) => [bytes(2 * i + 1)]));
  });

  test("delivers messages from a peer in order, with its name, in memory of their own", async () => {
    const { messages, peers } = await open("a");
    for (let i = 0; i < 20; i++) await peers[0]?.send(bytes(i, i));
    for (let i = 0; i < 20; i++) {
      const { value } = await messages.next();
      expect(value).toEqual({ peer: "a", frames: [bytes(i, i)] });
      expect(value.frames[0]?.buffer.byteLength).toBe(2);
    }
  });

  test("carries the frames of a message together and unchanged, both ways, even a megabyte", async () => {
    const { transport, messages, peers } = await open("a");
    const frames = [bytes(1, 2), new Uint8Array(1 << 20).map((_, index) => index), bytes()];
    // A megabyte takes seconds to compare item by item.
    const summary = (message: Frames = []) => message.map((frame) => [frame.length, crc32(frame)]);
    await transport.send("a", ...frames);
    const [received] = await take(peers[0], 1);
    expect(summary(received)).toEqual(summary(frames));
    await peers[0]?.send(...frames);
    const { value } = await messages.next();
    expect([value.peer, summary(value.frames)]).toEqual(["a", summary(frames)]);
  });

  test("refuses to send to a peer that never connected, and continues to serve the others", async () => {
    const { transport, peers } = await open("a");
    const lost = transport.send("nobody", bytes(1));
    const kept = transport.send("a", bytes(2));
    await expect(lost).rejects.toThrow(RefusedError);
    await expect(lost).rejects.toThrow("a frame to nobody: expected a connected peer");
    await kept;
    expect(await take(peers[0], 1)).toEqual([[bytes(2)]]);
  });

  test("refuses to send before any peer has connected", async () => {
    const { transport } = await open();
    await expect(transport.send("early", bytes(1))).rejects.toThrow("a frame to early: expected a connected peer");
  });

  test("is not blocked by a peer that does not read", async () => {
    const { transport, peers } = await open("idle", "reader");
    for (let i = 0; i < 20; i++) await transport.send("idle", new Uint8Array(1 << 20));
    await transport.send("reader", bytes(9));
    expect(await take(peers[1], 1)).toEqual([[bytes(9)]]);
  });

  test("ends its reader when closed, even twice and with frames still unsent", async () => {
    const { transport, messages } = await open("idle");
    await transport.send("idle", new Uint8Array(1 << 20));
    const end = messages.next();
    await Promise.all([transport.close(), transport.close()]);
    expect((await end).done).toBe(true);
    await expect(transport.send("idle", bytes(1))).rejects.toThrow(RefusedError);
  });
});
