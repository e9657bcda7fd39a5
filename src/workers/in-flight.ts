import type { AnswerMessage, Attempt } from "./attempt.ts";

/** What a worker was given and has not answered, in the order in which it does it: it may be handed its next task ahead. */
export interface InFlight {
  /** What it does now, as far as is known. */
  current(): Attempt | undefined;
  add(attempt: Attempt): void;
  remove(attempt: Attempt): void;
  /** The worker says that it does this task: those before it are done, and their answers on the way. */
  begin(taskId: string): void;
  take(message: AnswerMessage): void;
  all(): readonly Attempt[];
  /** Whether it is known which task the worker is at: its next may have been begun already, and its last answer not have come. */
  isCertain(): boolean;
  /** The worker is gone. Its current task fails with this error; all others are requeued. */
  close(error: Error): void;
}

export function createInFlight(): InFlight {
  let attempts: readonly Attempt[] = [];
  let begun: Attempt | undefined;
  const isUnanswered = (attempt: Attempt | undefined) => attempt !== undefined && !attempt.isAnswered();
  // One whose answer is on its way is done, though its tensors may still travel.
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
