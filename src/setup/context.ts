/** What every step of the set-up is given. */
export interface SetupContext {
  /** Tells the person at the terminal what was done. */
  say(line: string): void;
  /** Tells what is being done right now, in place of what was told before. */
  progress(line: string): void;
  readonly signal: AbortSignal;
}
