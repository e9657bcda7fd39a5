import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** Stands between a controller's transport and all that connect to it. */
export interface Relay {
  readonly port: number;
  /** From now on new connections lead to this port. */
  redirect(port: number): void;
  /** As if a link were cut: nothing gets through any more, and nobody is told. */
  mute(): void;
  /** As if the controller were killed: its connections end, and nobody answers at its address. */
  close(): void;
}

/** Listens at an address of this machine; connections lead to a port of 127.0.0.1. */
export async function startRelay(host: string, port: number): Promise<Relay> {
  let target = port;
  let isMuted = false;
  const sockets: Socket[] = [];
  const server = createServer((incoming) => {
    const outgoing = connect(target, "127.0.0.1");
    sockets.push(incoming, outgoing);
    for (const [from, to] of [
      [incoming, outgoing],
      [outgoing, incoming],
    ] as const) {
      if (!isMuted) from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
  });
  server.listen(0, host);
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    redirect: (other) => (target = other),
    mute() {
      isMuted = true;
      for (const socket of sockets) socket.unpipe().pause();
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
