import process from "node:process";
import { onOutputClosed } from "./closed-output.ts";

/**
 * Ctrl-C once asks the run to stop: workers are ended, records closed. Twice ends this process at once; the
 * workers die with their parent. Exit code 130 either way. It stops as well when the output can be written no more.
 */
export function onInterrupt(say: (line: string) => void): { readonly signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  const stop = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(130);
    say(`${name}: stopping; committed rounds are kept. Once more to stop at once.`);
    controller.abort();
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of signals) process.on(name, stop);
  const forget = onOutputClosed(() => {
    if (controller.signal.aborted) return;
    say("the output can be written no more: stopping; committed rounds are kept");
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
