import { Packr, Unpackr } from "msgpackr";
import type { z } from "zod";
import { RefusedError, RunFailedError } from "../errors.ts";
import { type ClientColumns, fromWire, toWire, wireColumns } from "./client-columns.ts";
import { inspectFrame } from "./validate-frame.ts";
import { type ControllerMessage, controllerMessage, type WorkerMessage, workerMessage } from "./messages.ts";
import { MAX_FRAME_BYTES, PROTOCOL_VERSION } from "./limits.ts";

/*
 * The only user of msgpackr. Its default writes records that no other library reads (hence `useRecords`), it
 * corrupts Float32Arrays and writes `undefined` as an extension type (the schema refuses both on the way out).
 */
const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, int64AsType: "number" });

/** A message on the wire: a msgpack map and, after that of a chunk, its data. */
export type Frames = readonly Uint8Array[];

/** Encodes a message. Throws a RunFailedError that names the fields if it breaks the contract: our own fault, not a worker's. */
export function encode(message: ControllerMessage): Frames {
  const { data, error } = controllerMessage.safeParse(message);
  if (data) return encodeMessage(data);
  const problem = `message ${message.type} cannot be sent: expected the fields that src/protocol/README.md lists`;
  throw new RunFailedError(`${problem}, got ${describeIssues(error)}`, { cause: error });
}

/** The same for a worker written in TypeScript. */
export function encodeWorkerMessage(message: WorkerMessage): Frames {
  return encodeMessage(workerMessage.parse(message));
}

/** Decodes and validates a worker's message. Throws only RefusedErrors, which name the problem. */
export function decodeWorkerMessage(...frames: Frames): WorkerMessage {
  return decodeMessage(frames, workerMessage);
}

/** Decodes and validates a controller's message in the same way. */
export function decodeControllerMessage(...frames: Frames): ControllerMessage {
  return decodeMessage(frames, controllerMessage);
}

/** The content of the tensor `clients`. */
export function encodeClients(columns: Omit<ClientColumns, "indexOf">): Uint8Array {
  return packr.pack(toWire(columns));
}

/** Decodes and validates the tensor `clients` of a worker that knows so many labels. Throws only RefusedErrors. */
export function decodeClients(content: Uint8Array, labels: number): ClientColumns {
  inspectFrame(content);
  const parsed = wireColumns.safeParse(unpackr.unpack(content));
  if (parsed.success) return fromWire(parsed.data, labels);
  throw new RefusedError("the columns of clients", "those that src/protocol/README.md lists", describeIssues(parsed.error));
}

/** The data is sent as it is: a view of the sender's memory, which must not change. */
function encodeMessage(message: ControllerMessage | WorkerMessage): Frames {
  if (message.type !== "chunk") return [packr.pack(wideIntegers(message))];
  const { data, ...header } = message;
  return [packr.pack(wideIntegers(header)), data];
}

function decodeMessage<T>([frame = new Uint8Array(0), ...data]: Frames, schema: z.ZodType<T>): T {
  for (const { length } of [frame, ...data])
    if (length > MAX_FRAME_BYTES) throw new RefusedError("a frame", `at most ${MAX_FRAME_BYTES} bytes`, `${length}`);
  inspectFrame(frame);
  const fields = unpackr.unpack(frame) as Record<string, unknown>;

  const type = typeof fields["type"] === "string" ? fields["type"].slice(0, 40) : "without a type";
  const version = fields["protocol_version"];
  if (version !== PROTOCOL_VERSION) {
    throw new RefusedError(
      `message ${type} speaks another protocol version`,
      `${PROTOCOL_VERSION}`,
      typeof version === "number" ? `${version}` : "none",
    );
  }
  const isChunk = type === "chunk";
  if (data.length !== (isChunk ? 1 : 0) || (isChunk && "data" in fields))
    throw new RefusedError(`message ${type}`, isChunk ? "a map, and the data in a second frame" : "one frame", `${data.length + 1} frames`);
  const parsed = schema.safeParse(isChunk ? { ...fields, data: data[0] } : fields);
  if (parsed.success) return parsed.data;
  throw new RefusedError(`message ${type}`, "the fields that src/protocol/README.md lists", describeIssues(parsed.error));
}

/** msgpackr writes integers beyond 32 bits as floats unless they are bigints, which arrive in Python as int. */
function wideIntegers(value: unknown): unknown {
  if (typeof value === "number") return Number.isSafeInteger(value) && Math.abs(value) > 0xffffffff ? BigInt(value) : value;
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(wideIntegers);
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, wideIntegers(field)]));
}

function describeIssues(error: z.ZodError): string {
  const issues = error.issues.slice(0, 3).map(({ path, message }) => (path.length > 0 ? `${path.join(".")}: ${message}` : message));
  return issues.join("; ").slice(0, 500);
}
