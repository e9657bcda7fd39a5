import process from "node:process";
import { messageSources } from "./corpus.ts";
import { fileLayer } from "./files.ts";
import { frameLayer, type Layer } from "./frames.ts";
import { conversationLayer } from "./conversations.ts";
import type { Report } from "./tally.ts";

/** In bytes. */
export interface Memory {
  /** JavaScript's heap after garbage collection. */
  readonly heap?: number;
  readonly rss: number;
}

export interface Attack {
  readonly layers: Readonly<Record<string, Report>>;
  readonly memory: { readonly afterTenth: Memory; readonly atEnd: Memory; readonly mostRss: number };
}

/** Of the inputs. */
const SHARES = { frames: 0.6, conversations: 0.3, files: 0.1 } as const;

/** Tries `inputs` inputs of all kinds in turn on the controller's code. Calls `tell` sometimes with the number done. */
export async function attackController(seed: number, inputs: number, tell: (done: number) => void = () => {}): Promise<Attack> {
  const sources = messageSources("worker", seed);
  const layers: Readonly<Record<keyof typeof SHARES, Layer>> = {
    frames: frameLayer(seed, sources),
    conversations: await conversationLayer(seed, sources),
    files: await fileLayer(seed),
  };
  const names = Object.keys(SHARES) as (keyof typeof SHARES)[];
  const done = (name: keyof typeof SHARES) => layers[name].tally.inputs() / (SHARES[name] * inputs);
  let afterTenth: Memory | undefined;
  for (let steps = 0; ; steps++) {
    const [least] = names.toSorted((a, b) => done(a) - done(b));
    if (least === undefined || done(least) >= 1) break;
    if (done(least) >= 0.1) afterTenth ??= memory();
    if (steps % 100 === 0) tell(names.reduce((sum, name) => sum + layers[name].tally.inputs(), 0));
    await layers[least].step();
  }
  const atEnd = memory();
  for (const layer of Object.values(layers)) await layer.close?.();
  return {
    layers: Object.fromEntries(names.map((name) => [name, layers[name].tally.report()])),
    memory: { afterTenth: afterTenth ?? atEnd, atEnd, mostRss: 1024 * process.resourceUsage().maxRSS },
  };
}

function memory(): Memory {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { heap: heapUsed + external, rss };
}
