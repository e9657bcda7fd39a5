/** A msgpack value. Leaves are raw bytes, so that values no encoder would write are possible. */
export type Tree = Leaf | Branch;

export interface Leaf {
  readonly bytes: Uint8Array;
  /** The number of values in these bytes; 1 by default. */
  readonly values?: number;
}

export interface Branch {
  readonly kind: "map" | "array";
  /** For a map, keys and values alternate. */
  items: Tree[];
  /** The number of items in its header, if different. */
  said?: number;
}

/** Throws a RangeError for an invalid frame. */
export function readTree(frame: Uint8Array): Tree {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let at = 0;
  const branch = (kind: Branch["kind"], header: number, count: number): Branch => {
    if (count > frame.length - at) throw new RangeError("more items than bytes");
    at += header;
    return { kind, items: Array.from({ length: kind === "map" ? 2 * count : count }, read) };
  };
  const leaf = (length: number): Leaf => {
    at += length;
    return { bytes: frame.subarray(at - length, at) };
  };
  function read(): Tree {
    const head = view.getUint8(at);
    if (head >= 0x80 && head <= 0x8f) return branch("map", 1, head & 15);
    if (head >= 0x90 && head <= 0x9f) return branch("array", 1, head & 15);
    if (head === 0xdc) return branch("array", 3, view.getUint16(at + 1));
    if (head === 0xdd) return branch("array", 5, view.getUint32(at + 1));
    if (head === 0xde) return branch("map", 3, view.getUint16(at + 1));
    if (head === 0xdf) return branch("map", 5, view.getUint32(at + 1));
    if (head >= 0xa0 && head <= 0xbf) return leaf(1 + (head & 31));
    if (head === 0xc4 || head === 0xd9) return leaf(2 + view.getUint8(at + 1));
    if (head === 0xc5 || head === 0xda) return leaf(3 + view.getUint16(at + 1));
    if (head === 0xc6 || head === 0xdb) return leaf(5 + view.getUint32(at + 1));
    return leaf(1 + (NUMBERS.get(head) ?? 0));
  }
  return read();
}

const NUMBERS = new Map(
  [0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3].map((head, i) => [head, [4, 8, 1, 2, 4, 8, 1, 2, 4, 8][i]]),
);

export function writeTree(tree: Tree): Uint8Array {
  const parts: Uint8Array[] = [];
  const write = (node: Tree) => {
    if ("bytes" in node) return parts.push(node.bytes);
    parts.push(header(node));
    for (const item of node.items) write(item);
  };
  write(tree);
  return Buffer.concat(parts);
}

function header({ kind, items, said }: Branch): Uint8Array {
  const values = items.reduce((sum, item) => sum + (("bytes" in item ? item.values : undefined) ?? 1), 0);
  const count = said ?? (kind === "map" ? values >> 1 : values);
  if (count < 16) return Uint8Array.of((kind === "map" ? 0x80 : 0x90) | count);
  const bytes = new Uint8Array(5);
  bytes[0] = kind === "map" ? 0xdf : 0xdd;
  new DataView(bytes.buffer).setUint32(1, count);
  return bytes;
}

/** All branches of a value, itself first. */
export function branchesOf(tree: Tree): Branch[] {
  return "bytes" in tree ? [] : [tree, ...tree.items.flatMap(branchesOf)];
}
