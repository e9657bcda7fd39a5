import { z } from "zod";
import { INTEGER_DTYPES } from "../tensor/encoded.ts";
import { EXAMPLE_COLUMNS, MOST_METRICS } from "./example-values.ts";
import { PROTOCOL_VERSION } from "./limits.ts";

/* What messages are made of. */

export const count = z.number().int().nonnegative();
export const positive = z.number().int().positive();
export const text = z.string().max(1_000_000);
/** zod refuses NaN and ±Infinity: a metric that is not finite is sent as null. */
export const metric = z.number().nullable();

/**
 * An array that is refused at its first wrong item. zod by itself reports every wrong item, which could exhaust memory for a
 * frame of millions. Used in all messages from workers. `item` in its metadata is the schema of its items.
 */
export const list = <T>(item: z.ZodType<T>, least = 0, most = Infinity) =>
  z
    .array(z.unknown())
    .min(least)
    .max(most)
    .meta({ item })
    .transform((values, context) => {
      const items: T[] = [];
      for (const [index, value] of values.entries()) {
        const { data, error } = item.safeParse(value);
        if (error) {
          for (const { path, message } of error.issues.slice(0, 1)) context.addIssue({ code: "custom", path: [index, ...path], message });
          return z.NEVER;
        }
        items.push(data);
      }
      return items;
    });

/** `merged` [n, width]: components that are part of the base model for this task; `state` [size]: of a client's optimizer. */
const tensorName = z.enum(["rows", "dense", "merged", "state"]);
/** In safetensors' spelling, except `I8X256`: see README.md. */
export const dtype = z.enum(["F32", "BF16", "F16", "I8X256"]);
/** Those of a partial sum's integers; the worker chooses the smallest that holds them all, unless it is asked for `F64`. */
export const integerDtype = z.enum(INTEGER_DTYPES);

/**
 * A tensor: raw little-endian data of this many bytes. It either follows its header in `chunk` messages and has a checksum,
 * or is in memory that a process of that machine shares: its descriptor, and the offset in that file.
 */
const placed = {
  shape: list(count, 1, 2),
  bytes: count,
  crc32: count.max(0xffffffff).nullable(),
  /** `pid`: of another worker on that machine, whose memory it is; null: the sender's own. */
  shared: z.strictObject({ pid: count.min(1).nullable(), fd: count, offset: count }).nullable(),
};
const isInOnePlace = ({ crc32, shared }: { readonly crc32: unknown; readonly shared: unknown }) => (crc32 === null) !== (shared === null);
const IN_ONE_PLACE = "has either a crc32 or shared memory";
const tensorDescriptor = z
  .strictObject({ name: tensorName, dtype: z.union([dtype, integerDtype]), ...placed })
  .refine(isInOnePlace, IN_ONE_PLACE);
export type TensorDescriptor = z.infer<typeof tensorDescriptor>;
/** The table of clients, which travels as a tensor of bytes; client-columns.ts says what it holds. */
const tableDescriptor = z
  .strictObject({ name: z.literal("clients"), dtype: z.literal("U8"), ...placed })
  .refine(isInOnePlace, IN_ONE_PLACE);
export type TableDescriptor = z.infer<typeof tableDescriptor>;
/** The values of evaluated examples; example-values.ts says what it holds. */
const examplesDescriptor = z
  .strictObject({ name: z.literal("examples"), dtype: z.literal("F64"), ...placed })
  .refine(isInOnePlace, IN_ONE_PLACE);
export type ExamplesDescriptor = z.infer<typeof examplesDescriptor>;
/** Bytes that a worker keeps, to lend them to the workers of its machine. */
const keptDescriptor = z.strictObject({ name: z.literal("kept"), dtype: z.literal("U8"), ...placed }).refine(isInOnePlace, IN_ONE_PLACE);
export type KeptDescriptor = z.infer<typeof keptDescriptor>;

export const session = { protocol_version: z.literal(PROTOCOL_VERSION) };
/** `task_id` and `attempt` identify an attempt, so that late and duplicated parts can be recognised and dropped. */
export const task = { ...session, task_id: z.string().min(1).max(200), attempt: positive };
/** What belongs to no trace has null; see README.md. */
const traceparent = z
  .string()
  .regex(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/)
  .nullable();
/** A task whose answer is awaited. */
export const request = { ...task, traceparent };
export const tensors = list(tensorDescriptor, 0, 4);
export const table = list(tableDescriptor, 1, 1);
export const examples = list(examplesDescriptor, 0, 1);
/** The rows of that tensor, see example-values.ts: prelort's columns, then the task's own metrics by name. */
export const examplesHeader = {
  columns: list(z.enum(EXAMPLE_COLUMNS)),
  metrics: list(z.string().max(200), 0, MOST_METRICS),
};
export const keeping = list(keptDescriptor, 1, 1);

/** A derived seed, 32 lower-case hex digits; the worker derives its own streams from it by purpose. */
export const seed = z.string().regex(/^[0-9a-f]{32}$/);
export const workerId = z.string().min(1).max(200);

export const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, "must be bytes").meta({ type: "bytes" });

export const chunk = z.strictObject({
  ...task,
  type: z.literal("chunk"),
  tensor: z.enum([...tensorName.options, "clients", "examples", "kept"]),
  offset: count,
  /** In a frame of its own. */
  data: bytes,
});
export const end = z.strictObject({ ...task, type: z.literal("end") });
/** Returns this many bytes of the peer's sending window. */
export const credit = z.strictObject({ ...session, type: z.literal("credit"), bytes: positive });

/** What a partial sum is a sum of: a worker adds up updates of one such basis at a time. */
export const basis = z.strictObject({
  round: positive,
  /** SHA-256 of the `global.safetensors` that the round's fits start from. */
  adapter: z.string(),
  /** A value x counts as the integer nearest to x·weight·resolution; a power of two. */
  resolution: z.number().positive(),
});
/** Identifies a model. */
export const source = z.strictObject({
  /** The commit that a name on the hub resolved to. */
  commit: z.string().nullable(),
  /** All files that affect what it computes; the code is a custom task's and what it imports from its folder. */
  files: list(
    z.strictObject({ part: z.enum(["weights", "tokenizer", "config", "code"]), name: z.string(), bytes: count, sha256: z.string() }),
  ),
});

export const device = z.strictObject({
  type: z.string(),
  name: z.string(),
  /** The instruction set used: torch's name for a CPU's, the compute capability of a CUDA device. */
  capability: z.string().nullable(),
  memory_bytes: count.nullable(),
});
