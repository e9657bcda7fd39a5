import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import path from "node:path";
import type { ServerState } from "../strategy/strategy.ts";
import { decodeSafetensors, encodeSafetensors } from "../tensor/safetensors.ts";
import type { Commit } from "./journal.ts";
import { hashIfThere, isThere, readIfThere, readingError } from "../base/read-file.ts";

/* The files of `rounds/<n>/`, and their hashes. */

export const ROUNDS = "rounds";
export const GLOBAL = "global.safetensors";
export const STATE = "server-state.safetensors";

/** An aggregation's state as a safetensors file in parts; undefined if it has none. */
export function encodeState(state: ServerState): readonly Uint8Array[] | undefined {
  const remembered = Object.entries(state).map(([name, values]) => [name, { shape: [values.length], values }] as const);
  return remembered.length > 0 ? encodeSafetensors(new Map(remembered), {}) : undefined;
}

/** `subject` names the file in errors. */
export function decodeState(bytes: Uint8Array, subject: string): ServerState {
  return Object.fromEntries([...decodeSafetensors(bytes, subject).tensors].map(([name, { values }]) => [name, values]));
}

/** SHA-256 of a file in parts, of any size. */
export function hashOf(parts: readonly Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const part of parts) {
    for (let from = 0; from < part.length; from += LARGEST_HASHED) hash.update(part.subarray(from, from + LARGEST_HASHED));
  }
  return hash.digest("hex");
}

/** One call hashes less than 2 GiB. */
const LARGEST_HASHED = 2 ** 30;

/** The path of a round's file below the run directory. */
export function roundFile(round: number, name: string): string {
  return path.join(ROUNDS, `${round}`, name);
}

/** The rounds that have a folder. */
export async function roundFolders(root: string): Promise<readonly number[]> {
  const folder = path.join(root, ROUNDS);
  if (!isThere(folder)) return [];
  const names = await readdir(folder).catch((cause: unknown) => {
    throw readingError(folder, cause);
  });
  return names.filter((name) => /^\d{1,15}$/.test(name)).map(Number);
}

/** What is wrong with a round's files; undefined if they have the committed bytes. */
export async function findDamage(root: string, { round, sha256, stateSha256 }: Committed): Promise<string | undefined> {
  const files = [[GLOBAL, sha256] as const, ...(stateSha256 === null ? [] : [[STATE, stateSha256] as const])];
  for (const [name, expected] of files) {
    const file = roundFile(round, name);
    const damage = describeDamage(file, expected, await hashIfThere(path.join(root, file)));
    if (damage !== undefined) return damage;
  }
  return undefined;
}

/** A round's file, or what is wrong with it if it does not have the committed bytes. */
export async function readRoundFile(
  root: string,
  { round, name, sha256 }: { readonly round: number; readonly name: string; readonly sha256: string },
): Promise<{ readonly bytes: Uint8Array; readonly damage?: never } | { readonly bytes?: never; readonly damage: string }> {
  const file = roundFile(round, name);
  const bytes = await readIfThere(path.join(root, file));
  const damage = describeDamage(file, sha256, bytes && hashOf([bytes]));
  return damage === undefined ? { bytes: bytes as Uint8Array } : { damage };
}

type Committed = Pick<Commit, "round" | "sha256" | "stateSha256">;

function describeDamage(file: string, expected: string, found: string | undefined): string | undefined {
  if (found === expected) return undefined;
  if (found === undefined) return `${file} is missing (its SHA-256 was ${expected})`;
  return `${file} is damaged (expected SHA-256 ${expected}, found ${found})`;
}
