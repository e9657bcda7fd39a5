import { setImmediate } from "node:timers/promises";
import { Router, type SocketOptions } from "zeromq";
import { RefusedError } from "../errors.ts";
import type { Frames } from "../protocol/codec.ts";
import { MAX_FRAME_BYTES } from "../protocol/limits.ts";
import { free } from "./free.ts";
import type { Transport } from "./transport.ts";

/** A bound ROUTER socket. A peer's name is its routing id, one byte for each character. */
export interface BoundRouter extends Pick<Transport, "send" | "receive"> {
  readonly endpoint: string;
  /** Safe to call twice. */
  close(): void;
}

export function bindRouter(address: string, security: SocketOptions<Router> = {}): BoundRouter {
  // Without `mandatory`, frames to unknown peers are silently dropped. High-water marks count frames, not bytes, and one
  // full pipe would stall the writer for all peers: the pool's credit in bytes is the only bound. A send then waits only
  // for a peer to connect, and without `sendTimeout` it would wait forever.
  const router = new Router({
    mandatory: true,
    sendHighWaterMark: 0,
    receiveHighWaterMark: 0,
    sendTimeout: 0,
    linger: 0,
    maxMessageSize: MAX_FRAME_BYTES,
    ...security,
  });
  try {
    router.bindSync(address);
  } catch (error) {
    router.close();
    throw error;
  }
  let lastSend: Promise<unknown> = Promise.resolve();

  return {
    endpoint: router.lastEndpoint ?? "",
    // A ZeroMQ socket takes one send at a time: each waits for the previous one, whether that succeeded or failed.
    send(peer, ...frames) {
      const sent = lastSend.then(() => sendNow(router, peer, frames));
      lastSend = sent.catch(() => {});
      return sent;
    },
    async *receive() {
      for await (const [peer, ...frames] of router) {
        if (!peer) continue;
        yield {
          peer: peer.toString("latin1"),
          frames: frames.map((frame) => new Uint8Array(frame.buffer, frame.byteOffset, frame.byteLength)),
        };
        const large = frames.filter(({ length }) => length >= LARGE_BYTES);
        // What was decoded may refer to a message's map, which is left to garbage collection.
        for (const frame of large) if (frame !== frames[0]) free(frame);
        // The memory is given back in a later turn, which a tight loop would put off.
        if (large.length > 0) await setImmediate();
      }
    },
    close: () => router.close(),
  };
}

/** Smaller frames are not worth the trouble. */
const LARGE_BYTES = 65536;

async function sendNow(router: Router, peer: string, frames: Frames): Promise<void> {
  if (router.closed) throw new RefusedError(`a frame to ${peer}`, "an open transport", "a closed one");
  try {
    await router.send([Buffer.from(peer, "latin1"), ...frames]);
  } catch (error) {
    if (isNoRoute(error)) throw new RefusedError(`a frame to ${peer}`, "a connected peer", "none of that name");
    throw error;
  }
}

function isNoRoute(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EHOSTUNREACH";
}
