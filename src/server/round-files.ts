import { createHash } from "node:crypto";
import type { ServerState } from "../strategy/strategy.ts";
import { decodeSafetensors, encodeSafetensors } from "../tensor/safetensors.ts";

/* The files of `rounds/<n>/`, and their hashes. */

export const GLOBAL = "global.safetensors";
export const STATE = "server-state.safetensors";

/** What an aggregation remembers, as a safetensors file in parts; undefined where that is nothing. */
export function encodeState(state: ServerState): readonly Uint8Array[] | undefined {
  const remembered = Object.entries(state).map(([name, values]) => [name, { shape: [values.length], values }] as const);
  return remembered.length > 0 ? encodeSafetensors(new Map(remembered), {}) : undefined;
}

/** `subject` names the file in errors. */
export function decodeState(bytes: Uint8Array, subject: string): ServerState {
  return Object.fromEntries([...decodeSafetensors(bytes, subject).tensors].map(([name, { values }]) => [name, values]));
}

/** SHA-256 of a file in parts. */
export function hashOf(parts: readonly Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}
