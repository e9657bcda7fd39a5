import { curveKeyPair } from "zeromq";
import { EnvironmentError, RefusedError } from "../errors.ts";
import { Admissions } from "./admissions.ts";
import { createGate } from "./zap.ts";
import { bindRouter, type BoundRouter } from "./router.ts";
import type { Transport } from "./transport.ts";

/** Where workers connect over tcp. */
export interface TcpOptions {
  /** Address of this machine to listen at; `0.0.0.0` or `::` for all of them. Default: 127.0.0.1. */
  readonly host?: string | undefined;
  /** Name or address under which workers reach it. Default: `host`. */
  readonly advertise?: string | undefined;
  /** First and last port to try. Default: any free one. */
  readonly ports?: readonly number[] | undefined;
  /** How long a worker may take to join, in milliseconds: its lease. Default: 30,000. */
  readonly joinTimeoutMs?: number | undefined;
}

/**
 * One port for all workers, encrypted by CURVE. A worker makes its own key pair, and only public keys travel. It is admitted
 * once its key is listed (see zap.ts), and its frames count once it has proved which worker it is (see admissions.ts).
 */
export function tcpTransport({ host = "127.0.0.1", advertise = host, ports, joinTimeoutMs = 30_000 }: TcpOptions = {}): Transport {
  const server = curveKeyPair();
  const admissions = new Admissions(server);
  const gate = createGate({ maxWaiting: () => Math.max(MIN_WAITING, admissions.size), patienceMs: joinTimeoutMs });
  const security = {
    ...gate.options,
    ipv6: host.includes(":"),
    handshakeInterval: joinTimeoutMs,
    curveServer: true,
    curveSecretKey: server.secretKey,
  };
  let router: BoundRouter;
  try {
    router = bindFirstFree(host, ports, (address) => bindRouter(address, security));
  } catch (error) {
    gate.close();
    throw error;
  }
  const endpoint = `tcp://${bracketed(advertise)}:${/\d+$/.exec(router.endpoint)?.[0]}`;

  return {
    open(workerId) {
      admissions.open(workerId);
      return {
        endpoint,
        serverKey: server.publicKey,
        admit(publicKey) {
          admissions.list(workerId, publicKey);
          gate.admit(publicKey);
        },
        close() {
          const publicKey = admissions.close(workerId);
          if (publicKey !== undefined) gate.revoke(publicKey);
        },
      };
    },
    async send(workerId, ...frames) {
      const routingId = admissions.routingIdOf(workerId);
      const refusal = new RefusedError(`a frame to ${workerId}`, "a connected peer", "none of that name");
      if (routingId === undefined) throw refusal;
      await router.send(routingId, ...frames).catch((error: unknown) => {
        // A routing id would tell the reader nothing, and must stay secret.
        throw error instanceof RefusedError ? refusal : error;
      });
    },
    async *receive() {
      for await (const { peer, frames } of router.receive()) {
        const taken = admissions.take(peer, frames);
        if (taken && "workerId" in taken) yield { peer: taken.workerId, frames };
        // A peer that has left meanwhile needs no answer.
        else if (taken) void router.send(peer, ...taken.reply).catch(() => {});
      }
    },
    async close() {
      router.close();
      gate.close();
    },
  };
}

/** Peers with unknown keys that may wait at the gate, if fewer workers are expected. */
const MIN_WAITING = 64;

function bindFirstFree(host: string, ports: TcpOptions["ports"], bind: (address: string) => BoundRouter): BoundRouter {
  const [first = 0, last = first] = ports ?? [];
  for (let port = first; port <= last; port++) {
    try {
      return bind(`tcp://${bracketed(host)}:${ports ? port : "*"}`);
    } catch (cause) {
      if (codeOf(cause) === "EADDRINUSE") continue;
      const [option, remedy] = codeOf(cause) === "EACCES" ? PRIVILEGED : ELSEWHERE;
      const problem = `${option}: could not listen at ${host}${ports ? `, port ${port}` : ""}: ${(cause as Error).message}`;
      throw new EnvironmentError(problem, remedy, { cause });
    }
  }
  throw new EnvironmentError(`workers.ports: each port of ${host} from ${first} to ${last} is in use`, "widen workers.ports");
}

const PRIVILEGED = ["workers.ports", "choose ports above 1023"] as const;
const ELSEWHERE = ["workers.host", "set workers.host to an address of this machine, or to 0.0.0.0 for all of them"] as const;

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
