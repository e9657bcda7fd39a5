import { createHmac, createPrivateKey, createPublicKey, diffieHellman, hkdfSync, timingSafeEqual } from "node:crypto";

/** A key pair of ZeroMQ's CURVE (X25519), each key 40 characters of Z85. */
export interface KeyPair {
  readonly publicKey: string;
  /** Not for a command line, an environment variable or a log: other users of the machine can read those. */
  readonly secretKey: string;
}

/** What a proof is about; each is in it, so that it is worth nothing anywhere else. */
export interface Challenge {
  /** 32 random bytes, used once. */
  readonly nonce: Uint8Array;
  /** The connection's routing id, as text. */
  readonly routingId: string;
  /** Whom the connection claims to be. */
  readonly workerId: string;
}

const INFO = "prelort admission";

/** 40 characters of Z85; each five of them are 32 bits. */
export function isPublicKey(text: string): boolean {
  const isZ85 = text.length === 40 && Array.from(text).every((digit) => DIGITS.includes(digit));
  return isZ85 && groupsOf(text).every((value) => value < 2 ** 32);
}

/**
 * Proves that one end has the secret half of `own`, to whoever has that of `peerKey`: HMAC-SHA256 of the challenge under
 * HKDF-SHA256 of the X25519 secret of the two. Only these two can compute it.
 */
export function admissionProof(own: KeyPair, peerKey: string, { nonce, routingId, workerId }: Challenge): Uint8Array {
  const secret = diffieHellman({ privateKey: toPrivateKey(own), publicKey: toPublicKey(peerKey) });
  const key = hkdfSync("sha256", secret, "", INFO, 32);
  const hmac = createHmac("sha256", Buffer.from(key));
  // The parts before the last are of fixed length, or cannot hold a space.
  hmac.update(`${Buffer.from(nonce).toString("hex")} ${routingId} ${workerId}`);
  return hmac.digest();
}

export function isSameProof(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function toPublicKey(publicKey: string) {
  return createPublicKey({ format: "jwk", key: { kty: "OKP", crv: "X25519", x: toBase64(publicKey) } });
}

function toPrivateKey({ publicKey, secretKey }: KeyPair) {
  const key = { kty: "OKP", crv: "X25519", x: toBase64(publicKey), d: toBase64(secretKey) };
  return createPrivateKey({ format: "jwk", key });
}

function toBase64(key: string): string {
  return decodeZ85(key).toString("base64url");
}

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/** 4 bytes for 5 characters, the most significant first: https://rfc.zeromq.org/spec/32. */
export function decodeZ85(text: string): Buffer {
  const groups = groupsOf(text);
  const bytes = Buffer.alloc(4 * groups.length);
  for (const [index, value] of groups.entries()) bytes.writeUInt32BE(value, 4 * index);
  return bytes;
}

function groupsOf(text: string): readonly number[] {
  const groups = text.match(/.{5}/g) ?? [];
  return groups.map((group) => Array.from(group).reduce((value, digit) => 85 * value + DIGITS.indexOf(digit), 0));
}
