import { createDeadline, type Deadline } from "./deadline.ts";

/** How long a worker may be silent, in milliseconds. */
export interface Timeouts {
  /** From its launch to its hello. */
  readonly startTimeoutMs: number;
  /** Between two frames. */
  readonly beatTimeoutMs: number;
  /** Between two signs of progress in a task. */
  readonly taskTimeoutMs: number;
}

/** What to do about a worker that is late. */
export interface Watched {
  /** `isLost`: nothing has been heard of it. */
  kill(problem: string, options?: { readonly isLost: boolean }): void;
  /** It has been silent for a part of that time. */
  probe(): void;
  /** The task in which progress is expected, if any. */
  awaited(): string | undefined;
  /** Whether it has delivered everything it was asked for, and only this process has to act. */
  isDelivered(): boolean;
}

/** One deadline for each way in which a worker can be late. */
export interface Watchdog {
  readonly start: Deadline;
  readonly beat: Deadline;
  readonly task: Deadline;
  readonly cancel: Deadline;
  clear(): void;
}

export function createWatchdog({ startTimeoutMs, beatTimeoutMs, taskTimeoutMs }: Timeouts, worker: Watched): Watchdog {
  const start = createDeadline(startTimeoutMs, () => worker.kill(`did not say hello within ${seconds(startTimeoutMs)} of its start`));
  const beat = createDeadline(
    beatTimeoutMs,
    () => worker.kill(`sent no heartbeat for ${seconds(beatTimeoutMs)}`, { isLost: true }),
    () => worker.probe(),
  );
  const task = createDeadline(taskTimeoutMs, () => {
    const awaited = worker.awaited();
    if (awaited === undefined) return;
    if (worker.isDelivered()) task.restart();
    else worker.kill(`made no progress in ${awaited} for ${seconds(taskTimeoutMs)}`);
  });
  const cancel = createDeadline(beatTimeoutMs, () =>
    worker.kill(`did not drop ${worker.awaited()} within ${seconds(beatTimeoutMs)} of being asked to`),
  );
  return { start, beat, task, cancel, clear: () => [start, beat, task, cancel].forEach((deadline) => deadline.clear()) };
}

function seconds(milliseconds: number): string {
  return `${milliseconds / 1000} s`;
}
