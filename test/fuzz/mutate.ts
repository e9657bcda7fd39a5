import type { Frames } from "../../src/protocol/codec.ts";
import { MAX_FRAME_BYTES } from "../../src/protocol/limits.ts";
import type { Rng } from "../../src/base/rng.ts";
import { below, choose, isOdds } from "./random.ts";
import { type Branch, branchesOf, readTree, type Tree, writeTree } from "./tree.ts";

export interface Sources {
  /** Valid messages. */
  readonly corpus: readonly Frames[];
  /** msgpack values. */
  readonly hostile: readonly Uint8Array[];
}

/** A valid message with a mutated frame, or with a frame too many or too few. */
export function mutateMessage(rng: Rng, frames: Frames, sources: Sources): Frames {
  const [map = new Uint8Array(0), ...data] = frames;
  switch (below(rng, 20)) {
    case 0: // without its last frame
      return frames.slice(0, -1);
    case 1: // with a frame of another message
      return frames.toSpliced(below(rng, frames.length + 1), 0, choose(rng, choose(rng, sources.corpus)));
    case 2:
      return [map, ...data.map((frame) => mutateBytes(rng, frame, data))];
    default:
      return [mutateFrame(rng, map, sources), ...data];
  }
}

/** A valid frame with one to three mutations, mostly of its structure, otherwise of its bytes. */
function mutateFrame(rng: Rng, frame: Uint8Array, sources: Sources): Uint8Array {
  const way = rng.next();
  const tree = way < 0.9 ? treeOf(frame) : undefined;
  const changed = tree ? mutateStructure(rng, tree, sources) : frame;
  return way > 0.82 || !tree ? mutateBytes(rng, changed, sources.corpus.flat()) : changed;
}

function treeOf(frame: Uint8Array): Tree | undefined {
  try {
    return readTree(frame);
  } catch {
    return undefined; // an earlier mutation broke it
  }
}

function mutateStructure(rng: Rng, tree: Tree, sources: Sources): Uint8Array {
  for (let count = 1 + below(rng, 3); count > 0; count--) {
    const branches = branchesOf(tree);
    // Prefer the message's own fields: nested ones are more numerous and less interesting.
    const branch = isOdds(rng, 0.6) ? branches[0] : choose(rng, branches);
    if (branch && branch.items.length > 0) mutateBranch(rng, branch, sources);
  }
  return writeTree(tree);
}

function mutateBranch(rng: Rng, branch: Branch, { corpus, hostile }: Sources): void {
  const width = branch.kind === "map" ? 2 : 1;
  const start = width * below(rng, Math.max(1, Math.floor(branch.items.length / width)));
  const value = start + width - 1;
  const entry = branch.items.slice(start, start + width);
  const replace = (item: Tree) => {
    branch.items[value] = item;
  };
  switch (below(rng, 11)) {
    case 0: // a field is missing
      branch.items.splice(start, width);
      return;
    case 1: // a field twice, with the same value or another
      branch.items.splice(start, 0, ...entry.slice(0, -1), isOdds(rng, 0.5) ? (entry.at(-1) as Tree) : { bytes: choose(rng, hostile) });
      return;
    case 2: // a field of another message, or its key
      branch.items[start] = graft(rng, corpus, branch.kind, 0);
      return;
    case 3:
      return replace(graft(rng, corpus, branch.kind, width - 1));
    case 4: {
      const other = width * below(rng, Math.max(1, Math.floor(branch.items.length / width))) + width - 1;
      [branch.items[value], branch.items[other]] = [branch.items[other] as Tree, branch.items[value] as Tree];
      return;
    }
    case 5:
      return replace({ bytes: nested(rng, branch.items[value] as Tree) });
    case 6:
      branch.said = isOdds(rng, 0.5) ? Math.max(0, branch.items.length / width + below(rng, 3) - 1) : choose(rng, COUNTS);
      return;
    case 7: {
      const item = isOdds(rng, 0.5) ? choose(rng, hostile) : writeTree(branch.items[value] as Tree);
      const bytes = Buffer.concat([...entry.slice(0, -1).map(writeTree), item]);
      const times = Math.min(
        isOdds(rng, branch.kind === "array" ? 0.006 : 0.0005) ? 2 ** 23 : isOdds(rng, 0.02) ? 1000 : 1 + below(rng, 8),
        MAX_FRAME_BYTES / (bytes.length + 1),
      );
      branch.items.splice(start, width, { bytes: repeat(bytes, times), values: width * Math.floor(times) });
      if (width === 2) branch.items.splice(start, 0, { bytes: new Uint8Array(0), values: 0 }); // keys stay at even indices
      return;
    }
    default:
      return replace({ bytes: choose(rng, hostile) });
  }
}

const COUNTS = [0, 16, 255, 65535, 2 ** 20, 2 ** 31, 2 ** 32 - 1];

/** A part of another valid message: a map's keys (`from` 0) or values (1), or a list's items. */
function graft(rng: Rng, corpus: readonly Frames[], kind: Branch["kind"], from: number): Tree {
  const branches = branchesOf(readTree(choose(rng, corpus)[0] as Uint8Array)).filter((branch) => branch.kind === kind);
  const items = branches.length === 0 ? [] : choose(rng, branches).items.filter((_, index) => kind === "array" || index % 2 === from);
  return items.length > 0 ? choose(rng, items) : { bytes: Uint8Array.of(0xa0) };
}

/** Wraps a value in nested lists of one item. */
function nested(rng: Rng, tree: Tree): Uint8Array {
  const depth = isOdds(rng, 0.01) ? 100_000 : 1 + below(rng, 10);
  return Buffer.concat([Buffer.alloc(depth, 0x91), writeTree(tree)]);
}

function repeat(bytes: Uint8Array, times: number): Uint8Array {
  return Buffer.alloc(bytes.length * Math.floor(times), bytes);
}

/** Mutates bytes: flipped, cut, inserted, repeated, spliced with another frame, or with a wrong length. */
export function mutateBytes(rng: Rng, bytes: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  let changed = bytes;
  for (let count = 1 + below(rng, 3); count > 0; count--) changed = mutateOnce(rng, changed, others);
  return changed;
}

function mutateOnce(rng: Rng, bytes: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  const at = below(rng, bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + below(rng, 16));
  switch (below(rng, 8)) {
    case 0: {
      const flipped = Uint8Array.from(bytes);
      for (let bits = 1 + below(rng, 4); bits > 0; bits--) flipped[below(rng, bytes.length)]! ^= 1 << below(rng, 8);
      return flipped;
    }
    case 1:
      return bytes.subarray(0, at);
    case 2:
      return Buffer.concat([bytes.subarray(0, at), randomBytes(rng, 1 + below(rng, 8)), bytes.subarray(at)]);
    case 3:
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    case 5: {
      const other = choose(rng, others);
      return Buffer.concat([bytes.subarray(0, at), other.subarray(below(rng, other.length + 1))]);
    }
    case 6: {
      const length = Uint8Array.of(choose(rng, LENGTH_HEADS), 0xff, 0xff, 0xff, 0xff).subarray(0, 1 + below(rng, 5));
      return Buffer.concat([bytes.subarray(0, at), length, bytes.subarray(end)]);
    }
    default:
      return Buffer.concat([bytes.subarray(0, at), randomBytes(rng, end - at), bytes.subarray(end)]);
  }
}

/** The codes of str, bin, array, map and ext that a length follows. */
const LENGTH_HEADS = [0xd9, 0xda, 0xdb, 0xc4, 0xc5, 0xc6, 0xdc, 0xdd, 0xde, 0xdf, 0xc7, 0xc8, 0xc9];

function randomBytes(rng: Rng, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => below(rng, 256));
}
