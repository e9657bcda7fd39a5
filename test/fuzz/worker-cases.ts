import { crc32 } from "node:zlib";
import type { Frames } from "../../src/protocol/codec.ts";
import { createRng, deriveSeed } from "../../src/base/rng.ts";
import { messageSources, goldenMessage, pack } from "./corpus.ts";
import { mutateMessage } from "./mutate.ts";
import { below, choose, isOdds } from "./random.ts";

/** Descriptors in the process of fuzz_worker.py: shared memory, and a pipe without a writer. */
const [LENT, SILENT] = [200, 201];

/** Conversations for a worker's inbox, of single messages or whole tasks, with mutations. */
export function* workerCases(seed: number): Generator<readonly Frames[]> {
  const rng = createRng(deriveSeed(seed, "worker"));
  const sources = messageSources("controller", seed);
  const fit = goldenMessage("fit");
  const data = Uint8Array.from({ length: 24 }, (_, index) => index);

  const task = (attempt: number): Frames[] => {
    const envelope = { task_id: choose(rng, ["t", "u"]), attempt };
    if (isOdds(rng, 0.3)) {
      const shared = { pid: choose(rng, [null, null, process.pid, 1]), fd: choose(rng, [LENT, LENT, SILENT, 0, 1, 999]), offset: 64 };
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
    if (isOdds(rng, 0.6)) yield [mutateMessage(rng, choose(rng, sources.corpus), sources)];
    else {
      const messages = [...task(1), ...(isOdds(rng, 0.5) ? task(1 + below(rng, 2)) : [])];
      for (let count = below(rng, 4); count > 0; count--) {
        const [at, other] = [below(rng, messages.length), below(rng, messages.length)];
        const message = messages[at] as Frames;
        if (isOdds(rng, 0.5)) messages[at] = mutateMessage(rng, message, sources);
        else if (isOdds(rng, 0.3)) messages.splice(other, 0, choose(rng, sources.corpus));
        else messages.splice(other, 0, ...(isOdds(rng, 0.5) ? [message] : messages.splice(at, 1)));
      }
      yield messages;
    }
  }
}

/** Encodes a case for fuzz_worker.py. */
export function encodeCase(messages: readonly Frames[]): Uint8Array {
  const length = (count: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(count);
    return bytes;
  };
  const encoded = (frames: Frames) => [length(frames.length), ...frames.flatMap((frame) => [length(frame.length), frame])];
  return Buffer.concat([length(messages.length), ...messages.flatMap(encoded)]);
}
