import { RefusedError } from "../../src/errors.ts";
import { decodeWorkerMessage, type Frames } from "../../src/protocol/codec.ts";
import { createRng, deriveSeed } from "../../src/base/rng.ts";
import { mutateMessage, type Sources } from "./mutate.ts";
import { choose } from "./random.ts";
import { createTally, nameOf, type Tally } from "./tally.ts";

/** No input may take longer twice in a row; once may be due to the machine. */
export const DEADLINE_MS = 30_000;

/** One layer that accepts input, attacked one input at a time. */
export interface Layer {
  readonly tally: Tally;
  /** Tries one input. */
  step(): Promise<void>;
  close?(): Promise<void>;
}

/** Messages for decodeWorkerMessage, which may throw only RefusedErrors. */
export function frameLayer(seed: number, sources: Sources): Layer {
  const rng = createRng(deriveSeed(seed, "frames"));
  const tally = createTally();

  const decode = (frames: Frames): Error | undefined => {
    try {
      decodeWorkerMessage(...frames);
      return undefined;
    } catch (error) {
      return error as Error;
    }
  };
  return {
    tally,
    async step() {
      const frames = mutateMessage(rng, choose(rng, sources.corpus), sources);
      tally.input();
      const error = await timed(tally, frames, () => decode(frames));
      if (!error?.message.startsWith("a frame: ")) tally.passed();
      if (!error) tally.accepted();
      else if (error instanceof RefusedError) tally.refused(nameOf(error));
      else tally.crashed(error, frames);
    },
  };
}

/** Runs something that has to end before its deadline. */
export async function timed<T>(tally: Tally, input: readonly Uint8Array[], run: () => T | Promise<T>): Promise<T> {
  const once = async () => {
    const start = performance.now();
    try {
      return await run();
    } finally {
      ms = performance.now() - start;
    }
  };
  let ms = 0;
  try {
    return await once();
  } finally {
    if (ms > DEADLINE_MS) await once().catch(() => {});
    if (ms > DEADLINE_MS) tally.hung(`an input took more than ${DEADLINE_MS} ms`, input);
    tally.took(ms);
  }
}
