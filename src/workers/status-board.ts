import type { WorkerStatus } from "./task.ts";

/** What a worker is doing. */
export class StatusBoard {
  readonly #onChange: (status: WorkerStatus) => void;
  #now: WorkerStatus;

  /** Calls `onChange` on every change. */
  constructor(first: WorkerStatus, onChange: (status: WorkerStatus) => void) {
    this.#now = first;
    this.#onChange = onChange;
  }

  get now(): WorkerStatus {
    return this.#now;
  }

  /** Returns whether anything is new. */
  update(changes: Partial<WorkerStatus>): boolean {
    const isNew = Object.entries(changes).some(([key, value]) => this.#now[key as keyof WorkerStatus] !== value);
    this.#now = { ...this.#now, ...changes };
    if (isNew) this.#onChange(this.#now);
    return isNew;
  }
}
