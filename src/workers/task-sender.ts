import type { Adapter } from "../adapter/adapter.ts";
import { describeTensors, type Lend, lendTensors, type LentTensors, splitTensors } from "../protocol/tensor-chunks.ts";
import type { ControllerMessage } from "../protocol/messages.ts";
import { CREDIT_BYTES, type PROTOCOL_VERSION, SESSION } from "../protocol/limits.ts";
import { createCredit } from "./credit.ts";
import { Keeper } from "./keeper.ts";
import type { Task } from "./task.ts";

interface Envelope {
  readonly protocol_version: typeof PROTOCOL_VERSION;
  readonly task_id: string;
  readonly attempt: number;
}

/** Called when a task's turn has come. */
export interface Turn {
  isWanted(): boolean;
  /** Puts tensors where the worker can read them; undefined: they are sent. */
  lend(): Lend | undefined;
  /** It is about to be sent. Returns whether it is still wanted. */
  begin(): boolean;
}

/** A task that was sent, or is not wanted any more. */
export interface Sent {
  /** To be called once the worker no longer reads the task. */
  release(): void;
  /** Its tensors are in the memory of a worker, which the worker may be unable to read. */
  readonly isKept: boolean;
}

/** Of the optimizer that a fit goes on with. */
type State = Uint8Array | undefined;

/** What is sent with a task, or was lent. */
interface Ready {
  readonly lent: LentTensors | undefined;
  readonly state: State;
}

/** Sends tasks to one worker, each whole before the next, and never more bytes than the worker has given credit for. */
export class TaskSender {
  readonly #send: (message: ControllerMessage) => Promise<void>;
  readonly #credit = createCredit(CREDIT_BYTES);
  /** Sends what the worker is to keep, at any time. */
  readonly keeper: Keeper;
  #last: Promise<unknown> = Promise.resolve();
  #current: string | undefined;
  #isLending = false;

  /** Calls `onKeep` before it sends bytes to keep: others wait for them, even while this worker has no task. */
  constructor(workerId: string, send: (message: ControllerMessage) => Promise<void>, onKeep: () => void) {
    this.#send = send;
    this.keeper = new Keeper(workerId, send, { credit: this.#credit, onKeep });
  }

  /** What is being sent: a task, which the worker must receive whole even if it has already answered, or bytes to keep. */
  get current(): string | undefined {
    return this.#current ?? this.keeper.current;
  }

  /** The next task's tensors are being put where the worker can read them. */
  get isLending(): boolean {
    return this.#isLending;
  }

  /** Sends a task after earlier ones. */
  send(task: Task, attempt: number, turn: Turn): Promise<Sent> {
    const sending = this.#last.then(async () => {
      const state = turn.isWanted() ? await task.readState?.() : undefined;
      const lent = turn.isWanted() ? await this.#lend(task, turn.lend(), state) : undefined;
      const release = lent?.release ?? (() => {});
      try {
        if (turn.begin()) await this.#sendTask(task, attempt, { lent, state });
        else release();
      } catch (error) {
        release();
        throw error;
      }
      return { release, isKept: lent?.descriptors.some(({ shared }) => shared?.pid != null) ?? false };
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
    this.keeper.close(reason);
  }

  async #lend({ payload }: Task, lend: Lend | undefined, state: State): Promise<LentTensors | undefined> {
    if (!payload || !lend) return undefined;
    this.#isLending = true;
    try {
      return await lendTensors(payload, lend, state);
    } finally {
      this.#isLending = false;
    }
  }

  async #sendTask({ id: task_id, request, payload, span }: Task, attempt: number, { lent, state }: Ready): Promise<void> {
    const envelope: Envelope = { ...SESSION, task_id, attempt };
    try {
      this.#current = task_id;
      const asked = { ...envelope, traceparent: span?.traceparent ?? null };
      if (request.type === "fit" || request.type === "evaluate" || request.type === "generate") {
        const tensors = payload ? (lent?.descriptors ?? describeTensors(payload, state)) : [];
        await this.#send({ ...asked, ...request, tensors: [...tensors] });
        if (payload && !lent) await this.#sendTensors(payload, state, envelope);
      } else await this.#send({ ...asked, ...request });
    } finally {
      this.#current = undefined;
    }
  }

  async #sendTensors(payload: Adapter, state: State, envelope: Envelope): Promise<void> {
    for (const chunk of splitTensors(payload, { state })) {
      await this.#credit.take(chunk.data.length);
      await this.#send({ ...envelope, type: "chunk", ...chunk });
    }
    await this.#send({ ...envelope, type: "end" });
  }
}
