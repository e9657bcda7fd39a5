import { randomBytes } from "node:crypto";
import type { Dealer, SocketOptions } from "zeromq";
import { RefusedError } from "../errors.ts";
import { decodeControllerMessage, encodeWorkerMessage } from "../protocol/codec.ts";
import { SESSION } from "../protocol/limits.ts";
import { admissionProof, type KeyPair } from "../transport/keys.ts";

/* How a worker over tcp joins. Apart from connection.ts, whose types are public and must not need those of zeromq. */

export interface Access extends KeyPair {
  readonly serverKey: string;
}

export function securityOf({ serverKey, publicKey, secretKey }: Access): SocketOptions<Dealer> {
  return { curveServerKey: serverKey, curvePublicKey: publicKey, curveSecretKey: secretKey };
}

/** What a connection over tcp is called; nobody can foresee it. */
export function newRoutingId(): string {
  return randomBytes(16).toString("hex");
}

/** Proves to the controller which worker this is. Rejects if the socket is closed before. */
export async function join(
  dealer: Dealer,
  { workerId, routingId }: { readonly workerId: string; readonly routingId: string },
  access: Access,
): Promise<void> {
  await dealer.send([...encodeWorkerMessage({ ...SESSION, type: "join", worker_id: workerId })]);
  const message = decodeControllerMessage(...(await dealer.receive()));
  if (message.type !== "challenge") throw new RefusedError("the controller's first message", "a challenge", message.type);
  const proof = admissionProof(access, access.serverKey, { nonce: message.nonce, routingId, workerId });
  await dealer.send([...encodeWorkerMessage({ ...SESSION, type: "proof", proof })]);
}
