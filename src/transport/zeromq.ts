import { bindRouter } from "./router.ts";
import { createSocketFolder } from "./socket-folder.ts";
import { type TcpOptions, tcpTransport } from "./tcp.ts";
import type { Transport } from "./transport.ts";

/** How workers connect. */
export type TransportOptions = { readonly kind: "ipc" } | ({ readonly kind: "tcp" } & TcpOptions);

/** `ipc` is a socket in a folder that only this user may enter; over `tcp` each worker must prove to have its own key. */
export async function zeromqTransport(options: TransportOptions): Promise<Transport> {
  return options.kind === "ipc" ? ipcTransport() : tcpTransport(options);
}

/** Workers connect with a DEALER whose routing id is their name. */
async function ipcTransport(): Promise<Transport> {
  const folder = await createSocketFolder();
  try {
    const router = bindRouter(`ipc://${folder.socketPath}`);
    return {
      open: () => ({ endpoint: router.endpoint, admit() {}, close() {} }),
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
