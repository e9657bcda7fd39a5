import { z } from "zod";
import { RefusedError } from "../errors.ts";
import { PROTOCOL_VERSION } from "../protocol/limits.ts";
import { type ControllerMessageOf, workerMessage, type WorkerMessageOf } from "../protocol/messages.ts";
import { encodedBytes, INTEGER_DTYPES, type IntegerDtype } from "../tensor/encoded.ts";
import type { EncodedIntegers } from "../tensor/integers.ts";
import { parseJson } from "../base/json.ts";
import type { Payload } from "../workers/task.ts";
import { readTensors, requireChecksum, writeChecked } from "./checked-file.ts";

/*
 * A partial sum on disk: a safetensors file with the integers that a worker sent, as bytes, and the answers of the fits that
 * they are the sum of. It counts in the same round of the same run or not at all.
 */

/** What a sum must be of to count in a round. */
export type Basis = ControllerMessageOf<"collect">["basis"];

/** A partial sum as it arrived. */
export interface ArrivedSum {
  readonly workerId: string;
  /** The answers of the fits whose updates it adds up. */
  readonly fits: readonly WorkerMessageOf<"fitted">[];
  readonly payload: Payload<IntegerDtype>;
}

const metadataSchema = z.object({
  /** The round's number, the adapter that its fits started from and the resolution of its sum. */
  round: z.string(),
  adapter: z.string(),
  resolution: z.string(),
  worker_id: z.string(),
  /** Of `rows` and `dense`, as JSON. */
  dtypes: z.string(),
  crc32: z.string(),
});
type Metadata = z.output<typeof metadataSchema>;

/** The answers, as a tensor of bytes: too long for metadata where a sum has many members. */
const ANSWERS = "answers";

/** Writes a sum completely before this resolves, reusing the disk space of a file with that name. */
export async function writeSum(file: string, basis: Basis, { workerId, fits, payload }: ArrivedSum): Promise<void> {
  const answers = JSON.stringify(fits);
  const tensors = Object.entries(payload);
  const contents = [[ANSWERS, new TextEncoder().encode(answers)] as const, ...tensors.map(([name, { bytes }]) => [name, bytes] as const)];
  const described = contents.map(([name, bytes]) => [name, { dtype: "U8", shape: [bytes.length], bytes }] as const);
  const dtypes = JSON.stringify(Object.fromEntries(tensors.map(([name, { dtype }]) => [name, dtype])));
  await writeChecked(file, dtypes, new Map(described), { ...asText(basis), worker_id: workerId, dtypes } satisfies Omit<Metadata, "crc32">);
}

/** Reads a sum. Throws a RefusedError if it is missing, damaged, or does not belong to this round. */
export async function readSum(file: string, basis: Basis): Promise<ArrivedSum> {
  const { tensors, metadata: found } = await readTensors(file, "a partial sum");
  const { data: metadata } = metadataSchema.safeParse(found);
  for (const [key, expected] of Object.entries(asText(basis))) {
    const value = metadata?.[key as keyof Metadata];
    if (value !== expected) throw new RefusedError(file, `a partial sum of ${key} ${expected}`, value ?? "none");
  }
  const { worker_id: workerId = "", dtypes = "", crc32 = "" } = metadata ?? {};
  requireChecksum(file, { answer: dtypes, tensors }, crc32);
  const fits: unknown = parseJson(new TextDecoder().decode(tensors.get(ANSWERS)));
  if (!Array.isArray(fits)) throw new RefusedError(file, "the answers of its fits", "none");
  const payload = Object.entries(parseJson(dtypes) ?? {}).map(([name, dtype]) => [name, integersOf(file, dtype, tensors.get(name))]);
  return { workerId, fits: fits.map((fit) => fitIn(file, fit)), payload: Object.fromEntries(payload) };
}

function asText({ round, adapter, resolution }: Basis): Record<keyof Basis, string> {
  return { round: `${round}`, adapter, resolution: `${resolution}` };
}

function fitIn(file: string, fit: object): WorkerMessageOf<"fitted"> {
  const { data } = workerMessage.safeParse({ ...fit, protocol_version: PROTOCOL_VERSION });
  if (data?.type === "fitted") return data;
  throw new RefusedError(file, "the answers of its fits", "something else");
}

function integersOf(file: string, dtype: unknown, bytes: Uint8Array = new Uint8Array(0)): EncodedIntegers {
  const known = INTEGER_DTYPES.find((name) => name === dtype);
  const length = known && bytes.length / encodedBytes(known, 1);
  if (known && Number.isInteger(length)) return { dtype: known, length: Number(length), bytes };
  throw new RefusedError(file, "the integers of a sum", `${bytes.length} bytes of ${String(dtype)}`);
}
