import type { AnswerMessage, Attempt } from "./attempt.ts";

/** A worker's unanswered tasks, in the order in which it does them: it may be given its next task in advance. */
export interface InFlight {
  /** Its current task, as far as is known. */
  current(): Attempt | undefined;
  add(attempt: Attempt): void;
  remove(attempt: Attempt): void;
  /** The worker reported that it is doing this task: earlier ones are done, and their answers on the way. */
  begin(taskId: string): void;
  take(message: AnswerMessage): void;
  all(): readonly Attempt[];
  /** Whether the worker's current task is known: it may have begun its next one while its last answer is still on the way. */
  isCertain(): boolean;
  /** The worker is gone. Its current task fails with this error; all others are requeued. */
  close(error: Error): void;
}

export function createInFlight(): InFlight {
  let attempts: readonly Attempt[] = [];
  let begun: Attempt | undefined;
  const isUnanswered = (attempt: Attempt | undefined) => attempt !== undefined && !attempt.isAnswered();
  // A task is done once its answer has arrived, even if its tensors are still on the way.
  const current = () => (isUnanswered(begun) ? begun : (attempts.find(isUnanswered) ?? attempts[0]));
  return {
    current,
    add(attempt) {
      attempts = [...attempts, attempt];
    },
    remove(attempt) {
      attempts = attempts.filter((other) => other !== attempt);
      if (begun === attempt) begun = undefined;
    },
    begin(taskId) {
      begun = attempts.find((attempt) => attempt.taskId === taskId) ?? begun;
    },
    take(message) {
      for (const attempt of attempts) attempt.take(message);
    },
    all: () => attempts,
    isCertain() {
      const unanswered = attempts.filter(isUnanswered);
      return unanswered.length <= 1 || begun === unanswered.at(-1);
    },
    close(error) {
      const guilty = current();
      for (const attempt of attempts) {
        if (attempt === guilty) attempt.fail(error);
        else attempt.requeue();
      }
    },
  };
}
