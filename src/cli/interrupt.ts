import process from "node:process";
import { InterruptedError } from "../errors.ts";
import { onOutputClosed } from "./closed-output.ts";

/**
 * The first Ctrl-C aborts the signal, so that workers are ended and records are closed; the second ends this process at once, and
 * the workers end with their parent. Both exit with 130. A closed output aborts the signal, too. `kept` is what survives either.
 * `stopFirst` may stop something less than everything on Ctrl-C, and then returns true.
 */
export function onInterrupt(
  say: (line: string) => void,
  kept = "committed rounds are kept",
  stopFirst: () => boolean = () => false,
): { readonly signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  const stop = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) {
      say(`${name} again: stopping now; workers end with this process`);
      process.exit(130);
    }
    if (name === "SIGINT" && stopFirst()) return;
    say(`${name}: stopping; ${kept}. Send it again to stop now.`);
    controller.abort();
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of signals) process.on(name, stop);
  const forget = onOutputClosed(() => {
    if (controller.signal.aborted) return;
    say(`the output cannot be written any more: stopping; ${kept}`);
    controller.abort();
  });
  return {
    signal: controller.signal,
    dispose() {
      for (const name of signals) process.off(name, stop);
      forget();
    },
  };
}

/** The work of a command that trains many runs: of its interruption it tells how the whole goes on, not the run that was hit. */
export async function ofMany<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof InterruptedError)) throw error;
    const message = `the ${what} was interrupted; what its runs have committed is kept: run the same command again to continue`;
    throw new InterruptedError(message, { cause: error });
  }
}
