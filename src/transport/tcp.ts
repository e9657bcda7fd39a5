import { curveKeyPair } from "zeromq";
import { RefusedError } from "../errors.ts";
import { createChannel } from "./channel.ts";
import { bindRouter, type BoundRouter } from "./router.ts";
import type { Door, Transport } from "./transport.ts";
import { admit } from "./zap.ts";

/**
 * Every worker has its own port of 127.0.0.1 and a new key pair, without which nothing can be sent or received there. A
 * shared port would not do: ZeroMQ does not tell ZAP which routing id a key comes with, nor zeromq.js which key a frame
 * came with, so one worker could take another's name.
 */
export function tcpTransport(): Transport {
  const server = curveKeyPair();
  const incoming = createChannel<{ readonly peer: string; readonly frame: Uint8Array }>();
  const opened = new Map<string, { readonly router: BoundRouter; readonly door: Door }>();

  async function readFrames(peer: string, router: BoundRouter): Promise<void> {
    for await (const item of router.receive()) if (item.peer === peer) incoming.push(item);
  }

  return {
    open(peer) {
      const { publicKey, secretKey } = curveKeyPair();
      const admission = admit(publicKey);
      const router = bindRouter("tcp://127.0.0.1:*", { ...admission.options, curveServer: true, curveSecretKey: server.secretKey });
      const door: Door = {
        endpoint: router.endpoint,
        curve: { serverKey: server.publicKey, publicKey, secretKey },
        close() {
          router.close();
          admission.revoke();
          opened.delete(peer);
        },
      };
      opened.set(peer, { router, door });
      void readFrames(peer, router);
      return door;
    },
    async send(peer, frame) {
      const router = opened.get(peer)?.router;
      if (!router) throw new RefusedError(`a frame to ${peer}`, "a connected peer", "none of that name");
      await router.send(peer, frame);
    },
    receive: () => incoming,
    async close() {
      for (const { door } of opened.values()) door.close();
      incoming.close();
    },
  };
}
