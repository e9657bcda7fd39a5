import { curveKeyPair } from "zeromq";
import { beforeEach, describe, expect, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { decodeControllerMessage, encodeWorkerMessage, type Frames } from "../../../src/protocol/codec.ts";
import { PROTOCOL_VERSION } from "../../../src/protocol/limits.ts";
import { Admissions } from "../../../src/transport/admissions.ts";
import { admissionProof, type KeyPair } from "../../../src/transport/keys.ts";

const session = { protocol_version: PROTOCOL_VERSION } as const;
const server = curveKeyPair();
const worker = curveKeyPair();
/** Routing ids as workers draw them. */
const [here, there] = ["00112233445566778899aabbccddeeff", "00112233445566778899aabbccddeefe"];
let admissions: Admissions;

const joinOf = (workerId = "w0") => encodeWorkerMessage({ ...session, type: "join", worker_id: workerId });

/** The nonce that a connection is challenged with; undefined where its join gets no answer. */
function challenge(routingId: string, workerId?: string): Uint8Array | undefined {
  const taken = admissions.take(routingId, joinOf(workerId));
  if (!taken || !("reply" in taken)) return undefined;
  const message = decodeControllerMessage(...taken.reply);
  if (message.type !== "challenge") throw new Error(`expected a challenge, got ${message.type}`);
  return message.nonce;
}

function proofOf(nonce: Uint8Array, routingId: string, { keys = worker, workerId = "w0" } = {}): Frames {
  const proof = admissionProof(keys, server.publicKey, { nonce, routingId, workerId });
  return encodeWorkerMessage({ ...session, type: "proof", proof });
}

/** Whether a connection counts as that worker's. */
function hasJoined(routingId: string, workerId = "w0"): boolean {
  const taken = admissions.take(routingId, [Uint8Array.of(1, 2, 3)]);
  return taken !== undefined && "workerId" in taken && taken.workerId === workerId;
}

beforeEach(() => {
  admissions = new Admissions(server);
  admissions.open("w0");
  admissions.list("w0", worker.publicKey);
});

test("a connection that answers its challenge with the listed key is that worker from then on", () => {
  const nonce = challenge(here);
  expect([nonce?.length, hasJoined(here)]).toEqual([32, false]);
  expect(admissions.take(here, proofOf(nonce as Uint8Array, here))).toBeUndefined();
  expect([hasJoined(here), hasJoined(there), admissions.routingIdOf("w0")]).toEqual([true, false, here]);
});

describe("a proof is worth nothing", () => {
  const nonceOf = (routingId: string) => challenge(routingId) as Uint8Array;

  test("from another connection than the one that was challenged", () => {
    const nonce = nonceOf(here);
    nonceOf(there);
    admissions.take(there, proofOf(nonce, here));
    admissions.take(there, proofOf(nonce, there));
    expect(hasJoined(there)).toBe(false);
  });

  test("with another key, another worker's name, another server's key, or another nonce", () => {
    const others = curveKeyPair();
    const forged: readonly ((nonce: Uint8Array) => Frames)[] = [
      (nonce) => proofOf(nonce, here, { keys: others }),
      (nonce) => proofOf(nonce, here, { workerId: "w1" }),
      (nonce) => {
        const proof = admissionProof(worker, others.publicKey, { nonce, routingId: here, workerId: "w0" });
        return encodeWorkerMessage({ ...session, type: "proof", proof });
      },
      () => proofOf(new Uint8Array(32), here),
      () => encodeWorkerMessage({ ...session, type: "proof", proof: new Uint8Array(0) }),
    ];
    for (const forge of forged) {
      admissions.take(here, forge(nonceOf(here)));
      expect(hasJoined(here)).toBe(false);
    }
  });

  test("after a wrong one: each challenge is answered once", () => {
    const nonce = nonceOf(here);
    admissions.take(here, proofOf(new Uint8Array(32), here));
    admissions.take(here, proofOf(nonce, here));
    expect(hasJoined(here)).toBe(false);
  });

  test("a proof is worth nothing when sent again for the next launch, even with the same key", () => {
    const proof = proofOf(nonceOf(here), here);
    admissions.take(here, proof);
    expect(admissions.close("w0")).toBe(worker.publicKey);
    admissions.open("w0");
    admissions.list("w0", worker.publicKey);
    admissions.take(here, proof);
    expect(hasJoined(here)).toBe(false);
    nonceOf(here);
    admissions.take(here, proof);
    expect(hasJoined(here)).toBe(false);
  });

  test("once its launch is over", () => {
    const nonce = nonceOf(here);
    admissions.close("w0");
    admissions.take(here, proofOf(nonce, here));
    expect(hasJoined(here)).toBe(false);
  });
});

test("a join gets no answer under a routing id that could be foreseen, for an unknown worker, for one without a key, and once it has joined", () => {
  for (const short of ["w0", "\0\u00e4<\u0098i", here.slice(1), `${here}0`]) expect(challenge(short)).toBeUndefined();
  expect(challenge(here, "w1")).toBeUndefined();
  admissions.open("w1");
  expect(challenge(here, "w1")).toBeUndefined();
  admissions.take(here, proofOf(challenge(here) as Uint8Array, here));
  expect(challenge(there)).toBeUndefined();
});

test.each([
  ["of no frames", []],
  ["of no bytes", [new Uint8Array(0)]],
  ["that cannot be read", [Uint8Array.of(0xc1, 2, 3)]],
  ["of another type", encodeWorkerMessage({ ...session, type: "credit", bytes: 1 })],
  ["longer than any join", [new Uint8Array(5_000_000)]],
  ["that is a join with another frame", [...joinOf(), new Uint8Array(1)]],
])("a message %s from a connection that has not joined is dropped", (_, frames) => {
  expect(admissions.take(here, frames)).toBeUndefined();
});

test("challenges that nobody answers are forgotten, the oldest first, once there are too many", () => {
  const nonce = challenge(here) as Uint8Array;
  for (let i = 0; i < 1024; i++) challenge(`a${i.toString(16).padStart(31, "0")}`);
  admissions.take(here, proofOf(nonce, here));
  expect(hasJoined(here)).toBe(false);
});

test("the first key of a launch counts; a second, or one of no launch, is refused", () => {
  const keys: KeyPair = curveKeyPair();
  expect(() => admissions.list("w0", keys.publicKey)).toThrow(RefusedError);
  expect(() => admissions.list("w9", keys.publicKey)).toThrow(RefusedError);
});
