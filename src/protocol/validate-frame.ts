import { RefusedError } from "../errors.ts";

/** Messages nest three deep at most (prepared → clients → label_counts); a little room is left. */
const MAX_DEPTH = 8;
/** The largest map is a message of twenty fields, or a list of versions. Objects of a million keys take seconds. */
const MAX_KEYS = 1000;

/**
 * Walks a frame's msgpack headers and refuses what the wire contract does not have: extension types (a msgpack
 * library would turn them into dates, errors, typed arrays or references), keys that are not strings, deep
 * nesting, huge maps, lengths beyond the frame's end, bytes after the value. What passes is safe to unpack, and takes no
 * more memory than its bytes warrant.
 */
export function inspectFrame(frame: Uint8Array): void {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let at = 0;

  const refuse = (expected: string, received: string): never => {
    throw new RefusedError("a frame", expected, `${received} at byte ${at}`);
  };
  const skip = (bytes: number) => {
    if (bytes > frame.length - at) refuse(`${bytes} more bytes`, `${frame.length - at}`);
    at += bytes;
  };
  const length = (bytes: 1 | 2 | 4): number => {
    const start = at;
    skip(bytes);
    return bytes === 1 ? view.getUint8(start) : bytes === 2 ? view.getUint16(start) : view.getUint32(start);
  };
  const isString = (head: number | undefined) => head !== undefined && ((head >= 0xa0 && head <= 0xbf) || (head >= 0xd9 && head <= 0xdb));

  const walkItems = (count: number, isMap: boolean, depth: number) => {
    if (depth > MAX_DEPTH) refuse(`at most ${MAX_DEPTH} levels`, "a deeper one");
    if (count > frame.length - at) refuse(`at most ${frame.length - at} items`, `${count}`);
    if (isMap && count > MAX_KEYS) refuse(`at most ${MAX_KEYS} keys`, `${count}`);
    for (let item = 0; item < count; item++) {
      if (isMap) {
        if (!isString(frame[at])) refuse("a string as key", "something else");
        walk(depth);
      }
      walk(depth);
    }
  };
  const walk = (depth: number): void => {
    if (at >= frame.length) refuse("a value", "the end");
    const head = view.getUint8(at++);
    if (head <= 0x7f || head >= 0xe0) return; // fixint
    if (head <= 0x8f) return walkItems(head & 0x0f, true, depth + 1);
    if (head <= 0x9f) return walkItems(head & 0x0f, false, depth + 1);
    if (head <= 0xbf) return skip(head & 0x1f);
    switch (head) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return;
      case 0xc4: // bin
      case 0xd9: // str
        return skip(length(1));
      case 0xc5:
      case 0xda:
        return skip(length(2));
      case 0xc6:
      case 0xdb:
        return skip(length(4));
      case 0xca: // float
        return skip(4);
      case 0xcb:
        return skip(8);
      case 0xcc: // uint 8 to 64
      case 0xcd:
      case 0xce:
      case 0xcf:
        return skip(1 << (head - 0xcc));
      case 0xd0: // int 8 to 64
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return skip(1 << (head - 0xd0));
      case 0xdc: // array
        return walkItems(length(2), false, depth + 1);
      case 0xdd:
        return walkItems(length(4), false, depth + 1);
      case 0xde: // map
        return walkItems(length(2), true, depth + 1);
      case 0xdf:
        return walkItems(length(4), true, depth + 1);
      default: // 0xc1 is reserved, all others are extension types
        at--;
        return refuse("a msgpack value that is no extension", `0x${head.toString(16)}`);
    }
  };

  if (!isMap(frame[0])) refuse("a msgpack map", frame.length === 0 ? "nothing" : "something else");
  walk(0);
  if (at !== frame.length) refuse("the end", `${frame.length - at} more bytes`);
}

function isMap(head: number | undefined): boolean {
  return head !== undefined && ((head >= 0x80 && head <= 0x8f) || head === 0xde || head === 0xdf);
}
