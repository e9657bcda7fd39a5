/** Passed to every step of the set-up. */
export interface SetupContext {
  /** Prints a line about a step. */
  say(line: string): void;
  /** Shows the current activity in place of the last one. */
  progress(line: string): void;
  readonly signal: AbortSignal;
}
