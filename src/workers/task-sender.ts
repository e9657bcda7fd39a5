import type { Adapter } from "../adapter/adapter.ts";
import { describeTensors, lendTensors, splitTensors } from "../protocol/tensor-chunks.ts";
import type { ControllerMessage } from "../protocol/messages.ts";
import { CREDIT_BYTES, type PROTOCOL_VERSION, SESSION } from "../protocol/limits.ts";
import type { SharedMemory } from "../transport/shared-memory.ts";
import { createCredit } from "./credit.ts";
import type { Task } from "./task.ts";

interface Envelope {
  readonly protocol_version: typeof PROTOCOL_VERSION;
  readonly task_id: string;
  readonly attempt: number;
}

/** Sends tasks to one worker, each whole before the next, and never more bytes than the worker has given credit for. */
export class TaskSender {
  readonly #send: (message: ControllerMessage) => Promise<void>;
  readonly #memory: SharedMemory;
  readonly #credit = createCredit(CREDIT_BYTES);
  #last: Promise<unknown> = Promise.resolve();
  #current: string | undefined;

  constructor(send: (message: ControllerMessage) => Promise<void>, memory: SharedMemory) {
    this.#send = send;
    this.#memory = memory;
  }

  /** The task that is being sent: the worker must receive it whole, even if it has already answered. */
  get current(): string | undefined {
    return this.#current;
  }

  /**
   * Sends a task after earlier ones. `begin` is called when its turn comes and returns whether it is still wanted and whether
   * the worker shares memory with this process. Resolves with a function to call once the worker no longer reads the task.
   */
  send(task: Task, attempt: number, begin: () => { readonly isWanted: boolean; readonly sharesMemory: boolean }): Promise<() => void> {
    const sending = this.#last.then(async () => {
      const { isWanted, sharesMemory } = begin();
      return isWanted ? this.#sendTask(task, attempt, sharesMemory) : () => {};
    });
    this.#last = sending.catch(() => {});
    return sending;
  }

  /** Sends a message without tensors after earlier tasks. */
  sendInTurn(message: ControllerMessage): Promise<void> {
    const sending = this.#last.then(() => this.#send(message));
    this.#last = sending.catch(() => {});
    return sending;
  }

  giveCredit(bytes: number): void {
    this.#credit.give(bytes);
  }

  close(reason: Error): void {
    this.#credit.close(reason);
  }

  async #sendTask({ id: task_id, request, payload }: Task, attempt: number, sharesMemory: boolean): Promise<() => void> {
    const envelope: Envelope = { ...SESSION, task_id, attempt };
    const lent = payload && sharesMemory ? await lendTensors(payload, this.#memory.lend) : undefined;
    try {
      this.#current = task_id;
      if (request.type === "fit" || request.type === "evaluate") {
        const tensors = payload ? (lent?.descriptors ?? describeTensors(payload)) : [];
        await this.#send({ ...envelope, ...request, tensors: [...tensors] });
        if (payload && !lent) await this.#sendTensors(payload, envelope);
      } else await this.#send({ ...envelope, ...request });
    } catch (error) {
      lent?.release();
      throw error;
    } finally {
      this.#current = undefined;
    }
    return lent?.release ?? (() => {});
  }

  async #sendTensors(payload: Adapter, envelope: Envelope): Promise<void> {
    for (const chunk of splitTensors(payload)) {
      await this.#credit.take(chunk.data.length);
      await this.#send({ ...envelope, type: "chunk", ...chunk });
    }
    await this.#send({ ...envelope, type: "end" });
  }
}
