import { InterruptedError } from "../errors.ts";
import type { Attempt } from "./attempt.ts";
import type { Deadline } from "./deadline.ts";

/** One worker's attempts that are to be dropped. */
export class Cancellations {
  readonly #workerId: string;
  readonly #ask: (attempt: Attempt) => void;
  /** Expires when the worker takes too long to drop what it was asked to. */
  readonly #deadline: Deadline;
  readonly #unsent = new Set<Attempt>();
  /** Those that the worker was asked to drop. */
  readonly #asked = new Set<Attempt>();

  constructor(workerId: string, deadline: Deadline, ask: (attempt: Attempt) => void) {
    this.#workerId = workerId;
    this.#deadline = deadline;
    this.#ask = ask;
  }

  /** Whether the worker was asked to drop a task and has not done so yet. */
  get isPending(): boolean {
    return this.#asked.size > 0;
  }

  /** It has not been sent yet. */
  add(attempt: Attempt): void {
    this.#unsent.add(attempt);
  }

  /** It is about to be sent. Returns whether it is still wanted. */
  begin(attempt: Attempt): boolean {
    this.#unsent.delete(attempt);
    return !attempt.isOver();
  }

  cancel(attempt: Attempt): void {
    if (this.#unsent.has(attempt))
      return attempt.fail(new InterruptedError(`${attempt.taskId} was cancelled before it was sent to worker ${this.#workerId}`));
    this.#ask(attempt);
    if (!this.isPending) this.#deadline.restart();
    this.#asked.add(attempt);
  }

  /** It has ended. */
  remove(attempt: Attempt): void {
    this.#unsent.delete(attempt);
    if (this.#asked.delete(attempt) && !this.isPending) this.#deadline.clear();
  }
}
