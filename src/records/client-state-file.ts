import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { RefusedError } from "../errors.ts";
import { encodeChecked, readHeader, readTensors, removeQuietly, requireChecksum } from "./checked-file.ts";
import { clientFileName } from "./client-file-name.ts";
import { writeDurably } from "./durable-file.ts";
import type { FitOrigin } from "./update-file.ts";

/*
 * The state that a fit left its client's optimizer in: `client-states/<round>/<client>.safetensors`, on disk before the fit's update
 * counts. The values are as the worker sent them. It counts only if the round commits a report of that client; which round that is,
 * the journal says. Like an update, it names what its fit was trained from.
 */

const metadataSchema = z.object({
  round: z.string(),
  adapter: z.string(),
  seed: z.string(),
  client_id: z.string(),
  /** The rank of the fit. */
  r: z.string(),
  /** Of the state. */
  crc32: z.string(),
});
type Metadata = z.output<typeof metadataSchema>;

/** The fit that a state is of. */
export interface StateOrigin extends FitOrigin {
  readonly clientId: string;
}

const STATE = "state";

/** The path of a state below `client-states`. */
export function stateFile({ round, clientId }: Pick<StateOrigin, "round" | "clientId">): string {
  return path.join(`${round}`, clientFileName(clientId));
}

/** Writes a state, which is on disk once this resolves. */
export async function writeState(folder: string, origin: StateOrigin, { r, state }: { r: number; state: Uint8Array }): Promise<void> {
  const tensor = { dtype: "F32", shape: [state.length / Float32Array.BYTES_PER_ELEMENT], bytes: state };
  const metadata = { ...asText(origin), r: `${r}` } satisfies Omit<Metadata, "crc32">;
  await writeDurably(path.join(folder, stateFile(origin)), encodeChecked("", new Map([[STATE, tensor]]), metadata));
}

/** Reads a state, into memory of its own. Throws a RefusedError if it is missing, damaged, or of another fit. */
export async function readState(folder: string, origin: StateOrigin): Promise<Uint8Array> {
  const file = path.join(folder, stateFile(origin));
  const { tensors, metadata } = await readTensors(file, wanted(origin));
  const { crc32 } = requireOrigin(file, origin, metadata);
  requireChecksum(file, { answer: "", tensors }, crc32);
  return tensors.get(STATE) ?? new Uint8Array(0);
}

/** The rank that a state is of, from the file's header. Throws a RefusedError if it is missing, cut short, or of another fit. */
export function readStateRank(folder: string, origin: StateOrigin): number {
  const file = path.join(folder, stateFile(origin));
  if (!existsSync(file)) throw new RefusedError(file, wanted(origin), "no such file");
  return Number(requireOrigin(file, origin, readHeader(file).metadata).r);
}

/** Removes all states but those of these paths. Best effort: what cannot be removed is tried again after the next round. */
export async function removeOtherStates(folder: string, kept: ReadonlySet<string>): Promise<void> {
  if (!existsSync(folder)) return;
  const entries = await readdir(folder, { withFileTypes: true });
  for (const { name: round } of entries.filter((entry) => entry.isDirectory())) {
    const files = (await readdir(path.join(folder, round))).map((name) => path.join(round, name));
    const others = files.filter((file) => !kept.has(file));
    if (others.length < files.length) for (const file of others) removeQuietly(path.join(folder, file));
    else await rm(path.join(folder, round), { recursive: true, force: true }).catch(() => {});
  }
}

function wanted({ round, clientId }: StateOrigin): string {
  return `the state of client ${clientId}'s optimizer after round ${round}`;
}

function asText({ round, adapter, seed, clientId }: StateOrigin): Omit<Metadata, "r" | "crc32"> {
  return { round: `${round}`, adapter, seed, client_id: clientId };
}

function requireOrigin(file: string, origin: StateOrigin, found: Readonly<Record<string, string>>): Metadata {
  const { data } = metadataSchema.safeParse(found);
  if (!data) throw new RefusedError(file, wanted(origin), "another file");
  for (const [key, expected] of Object.entries(asText(origin))) {
    const value = data[key as keyof Metadata];
    if (value !== expected) throw new RefusedError(file, `${wanted(origin)}, of ${key} ${expected}`, value);
  }
  return data;
}
