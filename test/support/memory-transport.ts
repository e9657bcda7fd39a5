import { RefusedError } from "../../src/errors.ts";
import { createChannel } from "../../src/transport/channel.ts";
import type { Frames } from "../../src/protocol/codec.ts";
import type { Transport } from "../../src/transport/transport.ts";

/** A worker's end of a transport. */
export interface Peer {
  send(...frames: Frames): Promise<void>;
  /** Messages as they arrive, for one reader. Ends when either side has closed. */
  receive(): AsyncIterable<Frames>;
  close(): Promise<void>;
}

/** A transport within one process: `connect` returns the worker's end. */
export function memoryTransport(): Transport & { connect(peer: string): Peer } {
  const incoming = createChannel<{ readonly peer: string; readonly frames: Frames }>();
  const peers = new Map<string, ReturnType<typeof createChannel<Frames>>>();

  return {
    open: () => ({ endpoint: "memory:", admit() {}, close() {} }),
    async send(peer, ...frames) {
      const inbox = peers.get(peer);
      if (!inbox) throw new RefusedError(`a frame to ${peer}`, "a connected peer", "none of that name");
      inbox.push(frames.map((frame) => frame.slice()));
    },
    receive: () => incoming,
    async close() {
      incoming.close();
      for (const inbox of peers.values()) inbox.close();
      peers.clear();
    },
    connect(peer) {
      const inbox = createChannel<Frames>();
      peers.set(peer, inbox);
      return {
        send: async (...frames) => incoming.push({ peer, frames: frames.map((frame) => frame.slice()) }),
        receive: () => inbox,
        async close() {
          inbox.close();
          if (peers.get(peer) === inbox) peers.delete(peer);
        },
      };
    },
  };
}
