import { buildRun, federate, loadConfig } from "prelort";

/** Prints the time at which the first client of a run has trained its only step: `node start-controller.js '{"config": …}'`. */
export interface StartAsked {
  readonly config: string;
  readonly set: readonly string[];
}

const asked = JSON.parse(process.argv[2] ?? "") as StartAsked;
const controller = new AbortController();
const config = buildRun(await loadConfig(asked.config, { set: [...asked.set] }));
const run = federate({ ...config, overwrite: true, signal: controller.signal });
// The run is stopped after that.
run.result.catch(() => {});
for await (const event of run) {
  if (event.type !== "client-fit") continue;
  process.stdout.write(`${JSON.stringify({ step: Date.now() / 1000 })}\n`);
  break;
}
controller.abort();
await run.result.catch(() => {});
