/** prelort/testing: tests of policies and of programs around `federate`, without Python. This list is the whole public API. */
export {
  clientsOf,
  rankContext,
  roundContext,
  type RoundContextOptions,
  seededRng,
  selectionContext,
  type SelectionContextOptions,
} from "./contexts.ts";
export { aggregate, layoutOf, type LayoutOptions, randomAdapter, updateOf, updatesOf, zeroAdapter } from "./updates.ts";
export { echo, tinyLauncher, type TinyLauncherOptions } from "./launcher.ts";
export type { TinyFit } from "./tiny-worker.ts";
export { tinyRun, type TinyRunOptions } from "./tiny-run.ts";
