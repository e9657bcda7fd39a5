import { randomBytes } from "node:crypto";
import { RefusedError } from "../errors.ts";
import { decodeWorkerMessage, encode, type Frames } from "../protocol/codec.ts";
import { SESSION } from "../protocol/limits.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import { admissionProof, isSameProof, type KeyPair } from "./keys.ts";

/** What to do with a message: pass it on as this worker's, reply to the connection, or drop it. */
export type Taken = { readonly workerId: string } | { readonly reply: Frames } | undefined;

/** A worker that may join. */
interface Launch {
  publicKey: string | undefined;
  /** Of the connection that has proved to be it. */
  routingId: string | undefined;
}

/** Frames of connections that have not joined are short: a join and a proof. */
const MAX_JOIN_BYTES = 2048;
/** Connections with an unanswered challenge; beyond that, the oldest is forgotten. */
const MAX_PENDING = 1024;

/** 128 random bits, in hexadecimal digits. */
const ROUTING_ID = /^[0-9a-f]{32}$/;

/**
 * Identifies the workers on a socket that all of them share. ZeroMQ does not tell which key a frame came with, so a connection
 * is identified by its routing id. It counts as a worker's once it has answered a single-use challenge, which proves that it has
 * that worker's secret key. The workers draw their routing ids at random: those that a ROUTER assigns can be predicted, and
 * another peer could take one between two connections. A launch joins once, so that another connection with the same key, or a
 * recorded join or proof, is ignored.
 */
export class Admissions {
  readonly #server: KeyPair;
  readonly #launches = new Map<string, Launch>();
  /** The workers that have joined, by routing id. */
  readonly #joined = new Map<string, string>();
  readonly #pending = new Map<string, { readonly workerId: string; readonly nonce: Uint8Array }>();

  constructor(server: KeyPair) {
    this.#server = server;
  }

  open(workerId: string): void {
    this.#launches.set(workerId, { publicKey: undefined, routingId: undefined });
  }

  /** Lists the worker's public key. The first one counts: throws a RefusedError for another. */
  list(workerId: string, publicKey: string): void {
    const launch = this.#launches.get(workerId);
    if (!launch || launch.publicKey !== undefined) throw new RefusedError(`a public key of ${workerId}`, "one for each launch", "another");
    launch.publicKey = publicKey;
  }

  /** Drops its frames from now on and refuses joins in its name. Returns its key. */
  close(workerId: string): string | undefined {
    const launch = this.#launches.get(workerId);
    this.#launches.delete(workerId);
    if (launch?.routingId !== undefined) this.#joined.delete(launch.routingId);
    return launch?.publicKey;
  }

  get size(): number {
    return this.#launches.size;
  }

  routingIdOf(workerId: string): string | undefined {
    return this.#launches.get(workerId)?.routingId;
  }

  take(routingId: string, frames: Frames): Taken {
    const workerId = this.#joined.get(routingId);
    if (workerId !== undefined) return { workerId };
    const [frame, ...others] = frames;
    if (!ROUTING_ID.test(routingId) || !frame || frame.length > MAX_JOIN_BYTES || others.length > 0) return undefined;
    const message = read(frame);
    if (message?.type === "join") return this.#challenge(routingId, message);
    if (message?.type === "proof") this.#verify(routingId, message);
    return undefined;
  }

  #challenge(routingId: string, { worker_id: workerId }: WorkerMessageOf<"join">): Taken {
    const launch = this.#launches.get(workerId);
    if (launch?.publicKey === undefined || launch.routingId !== undefined) return undefined;
    const nonce = randomBytes(32);
    const [oldest] = this.#pending.keys();
    if (oldest !== undefined && this.#pending.size >= MAX_PENDING) this.#pending.delete(oldest);
    this.#pending.set(routingId, { workerId, nonce });
    return { reply: encode({ ...SESSION, type: "challenge", nonce }) };
  }

  #verify(routingId: string, { proof }: WorkerMessageOf<"proof">): void {
    const pending = this.#pending.get(routingId);
    this.#pending.delete(routingId);
    if (!pending) return;
    const launch = this.#launches.get(pending.workerId);
    if (!launch || launch.routingId !== undefined) return;
    const { publicKey } = launch;
    if (publicKey === undefined || !isProof(proof, () => admissionProof(this.#server, publicKey, { ...pending, routingId }))) return;
    launch.routingId = routingId;
    this.#joined.set(routingId, pending.workerId);
  }
}

function read(frame: Uint8Array) {
  try {
    return decodeWorkerMessage(frame);
  } catch {
    return undefined;
  }
}

/** A key with which no secret can be shared proves nothing. */
function isProof(proof: Uint8Array, compute: () => Uint8Array): boolean {
  try {
    return isSameProof(proof, compute());
  } catch {
    return false;
  }
}
