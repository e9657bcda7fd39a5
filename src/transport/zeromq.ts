import { bindRouter } from "./router.ts";
import { createSocketFolder } from "./socket-folder.ts";
import { tcpTransport } from "./tcp.ts";
import type { Transport } from "./transport.ts";

/**
 * Workers connect with a DEALER socket that has their name as its routing id. `ipc` uses one socket in a folder that only
 * this user may enter; `tcp` uses a free port of 127.0.0.1 for each worker, which must prove that it has its own key.
 */
export async function zeromqTransport({ kind }: { readonly kind: "ipc" | "tcp" }): Promise<Transport> {
  return kind === "ipc" ? ipcTransport() : tcpTransport();
}

async function ipcTransport(): Promise<Transport> {
  const folder = await createSocketFolder();
  try {
    const router = bindRouter(`ipc://${folder.socketPath}`);
    return {
      open: () => ({ endpoint: router.endpoint, close() {} }),
      send: router.send,
      receive: router.receive,
      async close() {
        router.close();
        await folder.remove();
      },
    };
  } catch (error) {
    await folder.remove();
    throw error;
  }
}
