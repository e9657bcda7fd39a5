import { crc32 } from "node:zlib";
import { curveKeyPair, Dealer } from "zeromq";
import { decodeControllerMessage, encodeWorkerMessage } from "../protocol/codec.ts";
import type { ControllerMessageOf, WorkerMessage } from "../protocol/messages.ts";
import { CHUNK_BYTES, SESSION } from "../protocol/limits.ts";
import { createAssembler } from "../protocol/tensor-chunks.ts";
import { asFloat32, decode, type Encoded } from "../tensor/encoded.ts";
import type { EncodedIntegers } from "../tensor/integers.ts";
import type { LaunchOptions } from "../workers/launch.ts";
import { join, newRoutingId, securityOf } from "./join.ts";

export type TaskMessage = ControllerMessageOf<"prepare" | "load" | "fit" | "collect" | "evaluate" | "generate">;
export type Tensors = Readonly<Partial<Record<"rows" | "dense" | "merged" | "state", Float32Array>>>;
/** A tensor to send. */
export interface Tensor<V = Float32Array | EncodedIntegers | Encoded<"U8">> {
  readonly name: "rows" | "dense" | "state" | "clients" | "examples";
  readonly shape: readonly number[];
  readonly values: V;
}
export type TaskAnswer = Extract<WorkerMessage, { task_id: string }>;

/** A worker's end of the wire contract. */
export interface Connection {
  /** Over tcp. */
  readonly publicKey: string | undefined;
  /** Sends a message and the tensors that belong to it. Does nothing once the connection is closed. */
  send(message: WorkerMessage, payload?: readonly Tensor[]): void;
  /** Messages in the order of arrival, tasks with all of their tensors. Ends with the connection. For one reader only. */
  receive(): AsyncIterable<Received>;
  /** Safe to call twice. */
  close(): void;
}

export type Received =
  | ControllerMessageOf<"stop" | "cancel" | "grant">
  | { readonly type: "task"; readonly task: TaskMessage; readonly tensors: Tensors };

export function connect({ endpoint, workerId, serverKey }: LaunchOptions): Connection {
  const access = serverKey === undefined ? undefined : { serverKey, ...curveKeyPair() };
  const routingId = access ? newRoutingId() : workerId;
  const dealer = new Dealer({ routingId, linger: 0, ...(access && securityOf(access)) });
  dealer.connect(endpoint);
  const joined = access ? join(dealer, { workerId, routingId }, access) : Promise.resolve();
  let lastSend: Promise<unknown> = joined;
  const send = (message: WorkerMessage) => {
    const frames = encodeWorkerMessage(message);
    // A socket accepts one send at a time. Errors are ignored: the socket may have been closed meanwhile.
    lastSend = lastSend.then(() => dealer.send([...frames])).catch(() => {});
  };
  return {
    publicKey: access?.publicKey,
    send(message, payload = []) {
      if (!("tensors" in message) || payload.length === 0) return send(message);
      send({ ...message, tensors: payload.map(describe) } as WorkerMessage);
      const envelope = { ...SESSION, task_id: message.task_id, attempt: message.attempt };
      // All tensors fit in the initial credit of a connection.
      for (const { name: tensor, values } of payload) {
        const { bytes } = encoded(values);
        for (let offset = 0; offset < bytes.length; offset += CHUNK_BYTES) {
          send({ ...envelope, type: "chunk", tensor, offset, data: bytes.subarray(offset, offset + CHUNK_BYTES) });
        }
      }
      send({ ...envelope, type: "end" });
    },
    async *receive() {
      await joined;
      let arriving: ReturnType<typeof arrive> | undefined;
      for await (const frames of dealer) {
        const message = decodeControllerMessage(...frames);
        if (message.type === "stop" || message.type === "cancel" || message.type === "grant") yield message;
        else if (message.type === "chunk") {
          arriving?.write(message);
          send({ ...SESSION, type: "credit", bytes: message.data.length });
        } else if (message.type === "end") {
          if (arriving) yield arriving.finish();
        } else if ("attempt" in message && message.type !== "keep") {
          arriving = arrive(message);
          if (arriving.isWhole) yield arriving.finish();
        }
      }
    },
    close: () => dealer.close(),
  };
}

function describe({ name, shape, values }: Tensor): object {
  const { dtype, bytes } = encoded(values);
  return { name, dtype, shape: [...shape], bytes: bytes.length, crc32: crc32(bytes), shared: null };
}

function encoded(values: Tensor["values"]): Encoded | EncodedIntegers | Encoded<"U8"> {
  return values instanceof Float32Array ? asFloat32(values) : values;
}

/** A task that is still receiving tensors. */
function arrive(task: TaskMessage): { readonly isWhole: boolean; write(chunk: ControllerMessageOf<"chunk">): void; finish(): Received } {
  const descriptors = "tensors" in task ? task.tensors : [];
  // `merged` is always F32.
  const assemblers = descriptors.map(
    (descriptor) => [descriptor.name, createAssembler([descriptor], "any", { dtypes: ["F32", "BF16"] })] as const,
  );
  return {
    isWhole: descriptors.length === 0,
    write: (chunk) => assemblers.find(([name]) => name === chunk.tensor)?.[1].write(chunk),
    finish() {
      const arrived = assemblers.map(([name, assembler]) => [name, assembler.finish()[name]] as const);
      const tensors = Object.fromEntries(arrived.flatMap(([name, values]) => (values ? [[name, decode(values)]] : [])));
      return { type: "task", task, tensors };
    },
  };
}
