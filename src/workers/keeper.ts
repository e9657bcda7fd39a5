import { crc32 } from "node:zlib";
import { createDeferred, type Deferred } from "../base/deferred.ts";
import { WorkerError } from "../errors.ts";
import { CHUNK_BYTES, SESSION } from "../protocol/limits.ts";
import type { ControllerMessage, WorkerMessage, WorkerMessageOf } from "../protocol/messages.ts";
import { createLender, type Lender } from "../transport/lender.ts";
import type { Credit } from "./credit.ts";

interface KeeperOptions {
  readonly credit: Credit;
  onKeep(): void;
}

/**
 * Has a worker keep bytes in its memory, for itself and the other workers of its machine: what they all need is sent to the
 * machine once.
 */
export class Keeper {
  readonly #workerId: string;
  readonly #send: (message: ControllerMessage) => Promise<void>;
  readonly #credit: Credit;
  /** Called before each request. */
  readonly #onKeep: () => void;
  /** By task id. */
  readonly #awaited = new Map<string, Deferred<WorkerMessageOf<"kept">>>();
  #sent = 0;

  constructor(workerId: string, send: (message: ControllerMessage) => Promise<void>, { credit, onKeep }: KeeperOptions) {
    this.#workerId = workerId;
    this.#send = send;
    this.#credit = credit;
    this.#onKeep = onKeep;
  }

  /** What the worker has not confirmed yet. */
  get current(): string | undefined {
    const [first] = this.#awaited.keys();
    return first;
  }

  /** Handles the answer to a request of this keeper. Returns whether it was one. */
  take(message: WorkerMessage): boolean {
    if (message.type !== "kept" && message.type !== "failure") return false;
    const answer = this.#awaited.get(message.task_id);
    if (message.type === "kept") answer?.resolve(message);
    else answer?.reject(new WorkerError(`could not keep an adapter in memory: ${message.error.message}`, { workerId: this.#workerId }));
    return answer !== undefined || message.type === "kept";
  }

  /** Lends what the worker of this pid keeps. */
  lender(pid: number): Lender {
    // A file that is not used any more is emptied, and its number used again.
    let unused: readonly number[] = [];
    let files = 0;
    const open = () => {
      const [file = files++] = unused;
      unused = unused.filter((other) => other !== file);
      let fd = -1;
      const empty = () => void this.#keep(file, new Uint8Array(0), { offset: 0, size: 0 }).catch(() => {});
      return {
        fd: () => fd,
        write: async (bytes: Uint8Array, offset: number, size: number) => {
          ({ fd } = await this.#keep(file, bytes, { offset, size }));
        },
        empty,
        close() {
          empty();
          unused = [...unused, file];
        },
      };
    };
    return createLender({ pid, open });
  }

  /** The worker is gone. */
  close(error: Error): void {
    for (const answer of this.#awaited.values()) answer.reject(error);
  }

  async #keep(
    file: number,
    bytes: Uint8Array,
    { offset, size }: { readonly offset: number; readonly size: number },
  ): Promise<WorkerMessageOf<"kept">> {
    const envelope = { ...SESSION, task_id: `keep/${this.#sent++}`, attempt: 1 };
    const answer = createDeferred<WorkerMessageOf<"kept">>();
    // Not awaited while its request is still being sent.
    answer.promise.catch(() => {});
    this.#awaited.set(envelope.task_id, answer);
    this.#onKeep();
    try {
      const tensor = { name: "kept", dtype: "U8", shape: [bytes.length], bytes: bytes.length, crc32: crc32(bytes), shared: null } as const;
      await this.#send({ ...envelope, type: "keep", file, size, offset, tensors: [{ ...tensor, shape: [...tensor.shape] }] });
      for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
        const data = bytes.subarray(start, start + CHUNK_BYTES);
        await this.#credit.take(data.length);
        await this.#send({ ...envelope, type: "chunk", tensor: "kept", offset: start, data });
      }
      await this.#send({ ...envelope, type: "end" });
      return await answer.promise;
    } finally {
      this.#awaited.delete(envelope.task_id);
    }
  }
}
