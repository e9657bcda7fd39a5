import { crc32 } from "node:zlib";
import { createRng, deriveSeed } from "../../src/base/rng.ts";
import { frameSources, goldenMessage, pack } from "./corpus.ts";
import { mutateFrame } from "./mutate.ts";
import { below, choose, isOdds } from "./random.ts";

/** Descriptors in the process of fuzz_worker.py: shared memory, and a pipe without a writer. */
const [LENT, SILENT] = [200, 201];

/** Conversations for a worker's inbox, of single frames or whole tasks, with mutations. */
export function* workerCases(seed: number): Generator<readonly Uint8Array[]> {
  const rng = createRng(deriveSeed(seed, "worker"));
  const sources = frameSources("controller", seed);
  const fit = goldenMessage("fit");
  const data = Uint8Array.from({ length: 24 }, (_, index) => index);

  const task = (attempt: number): Uint8Array[] => {
    const envelope = { task_id: choose(rng, ["t", "u"]), attempt };
    if (isOdds(rng, 0.3)) {
      const shared = { fd: choose(rng, [LENT, LENT, SILENT, 0, 1, 999]), offset: 64 };
      const tensors = [{ name: "rows", dtype: "F32", shape: [2, 3], bytes: 24, crc32: null, shared }];
      return [pack({ ...fit, ...envelope, tensors }), ...(isOdds(rng, 0.5) ? [pack({ ...envelope, type: "cancel" })] : [])];
    }
    const tensors = [{ name: "rows", dtype: "F32", shape: [2, 3], bytes: 24, crc32: crc32(data), shared: null }];
    const size = choose(rng, [24, 10]);
    const chunks = Array.from({ length: Math.ceil(24 / size) }, (_, index) =>
      pack({ ...envelope, type: "chunk", tensor: "rows", offset: index * size, data: data.slice(index * size, (index + 1) * size) }),
    );
    return [pack({ ...fit, ...envelope, tensors }), ...chunks, pack({ ...envelope, type: isOdds(rng, 0.8) ? "end" : "cancel" })];
  };

  while (true) {
    if (isOdds(rng, 0.6)) yield [mutateFrame(rng, choose(rng, sources.corpus), sources)];
    else {
      const frames = [...task(1), ...(isOdds(rng, 0.5) ? task(1 + below(rng, 2)) : [])];
      for (let count = below(rng, 4); count > 0; count--) {
        const [at, other] = [below(rng, frames.length), below(rng, frames.length)];
        const frame = frames[at] as Uint8Array;
        if (isOdds(rng, 0.5)) frames[at] = mutateFrame(rng, frame, sources);
        else if (isOdds(rng, 0.3)) frames.splice(other, 0, choose(rng, sources.corpus));
        else frames.splice(other, 0, ...(isOdds(rng, 0.5) ? [frame] : frames.splice(at, 1)));
      }
      yield frames;
    }
  }
}

/** Encodes a case for fuzz_worker.py. */
export function encodeCase(frames: readonly Uint8Array[]): Uint8Array {
  const length = (count: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(count);
    return bytes;
  };
  return Buffer.concat([length(frames.length), ...frames.flatMap((frame) => [length(frame.length), frame])]);
}
