/** What every step of the set-up is given. */
export interface SetupContext {
  /** Tells the person at the terminal what is being done. */
  say(line: string): void;
  readonly signal: AbortSignal;
}
