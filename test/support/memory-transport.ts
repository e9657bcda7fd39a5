import { RefusedError } from "../../src/errors.ts";
import { createChannel } from "../../src/transport/channel.ts";
import type { Transport } from "../../src/transport/transport.ts";

/** A worker's end of a transport. */
export interface Peer {
  send(frame: Uint8Array): Promise<void>;
  /** Frames as they arrive, for one reader. Ends when either side has closed. */
  receive(): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** A transport within one process: `connect` returns the worker's end. */
export function memoryTransport(): Transport & { connect(peer: string): Peer } {
  const incoming = createChannel<{ readonly peer: string; readonly frame: Uint8Array }>();
  const peers = new Map<string, ReturnType<typeof createChannel<Uint8Array>>>();

  return {
    open: () => ({ endpoint: "memory:", admit() {}, close() {} }),
    async send(peer, frame) {
      const inbox = peers.get(peer);
      if (!inbox) throw new RefusedError(`a frame to ${peer}`, "a connected peer", "none of that name");
      inbox.push(frame.slice());
    },
    receive: () => incoming,
    async close() {
      incoming.close();
      for (const inbox of peers.values()) inbox.close();
      peers.clear();
    },
    connect(peer) {
      const inbox = createChannel<Uint8Array>();
      peers.set(peer, inbox);
      return {
        send: async (frame) => incoming.push({ peer, frame: frame.slice() }),
        receive: () => inbox,
        async close() {
          inbox.close();
          if (peers.get(peer) === inbox) peers.delete(peer);
        },
      };
    },
  };
}
