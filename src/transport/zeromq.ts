import { setImmediate } from "node:timers/promises";
import { Router } from "zeromq";
import { RefusedError } from "../errors.ts";
import { MAX_FRAME_BYTES } from "../protocol/messages.ts";
import { createSocketFolder } from "./socket-folder.ts";
import type { Transport } from "./transport.ts";

/**
 * Workers connect with a DEALER socket whose routing id is their name. `ipc` is a socket in a private folder;
 * `tcp` a free port of 127.0.0.1, since nothing on the wire is encrypted or authenticated yet.
 */
export async function zeromqTransport({ kind }: { readonly kind: "ipc" | "tcp" }): Promise<Transport> {
  // Without `mandatory` a frame to an unknown peer is dropped in silence. High-water marks count frames, not
  // bytes, and one full pipe would stall the writer for all: the pool's credit in bytes is the only bound.
  const router = new Router({ mandatory: true, sendHighWaterMark: 0, receiveHighWaterMark: 0, linger: 0, maxMessageSize: MAX_FRAME_BYTES });
  const folder = kind === "ipc" ? await createSocketFolder() : undefined;
  try {
    await router.bind(folder ? `ipc://${folder.socketPath}` : "tcp://127.0.0.1:*");
  } catch (error) {
    router.close();
    await folder?.remove();
    throw error;
  }
  const endpoint = router.lastEndpoint ?? "";
  let lastSend: Promise<unknown> = Promise.resolve();

  return {
    endpoint,
    // A ZeroMQ socket takes one send at a time: each waits for the one before it, whatever became of that.
    send(peer, frame) {
      const sent = lastSend.then(() => sendNow(router, peer, frame));
      lastSend = sent.catch(() => {});
      return sent;
    },
    async *receive() {
      for await (const [peer, frame] of router) {
        if (!peer || !frame) continue;
        yield { peer: peer.toString(), frame: new Uint8Array(frame.buffer, frame.byteOffset, frame.byteLength) };
        // A tight loop would outrun the collection of ZeroMQ's own buffers.
        await setImmediate();
      }
    },
    async close() {
      router.close();
      await folder?.remove();
    },
  };
}

async function sendNow(router: Router, peer: string, frame: Uint8Array): Promise<void> {
  if (router.closed) throw new RefusedError(`a frame to ${peer}`, "an open transport", "a closed one");
  try {
    await router.send([peer, frame]);
  } catch (error) {
    if (isNoRoute(error)) throw new RefusedError(`a frame to ${peer}`, "a connected peer", "none of that name");
    throw error;
  }
}

function isNoRoute(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EHOSTUNREACH";
}
