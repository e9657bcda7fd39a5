import { RefusedError } from "../errors.ts";

/** Messages nest at most three levels (evaluated → samples → answers), with some room to spare. */
const MAX_DEPTH = 8;
/** The largest map is a message of twenty fields, or a list of versions. Objects of a million keys take seconds. */
const MAX_KEYS = 1000;

/**
 * Walks a frame's msgpack headers and refuses anything that the wire contract lacks: extension types (a msgpack
 * library would turn them into dates, errors, typed arrays or references), keys that are not strings, deep
 * nesting, huge maps, lengths beyond the frame's end, bytes after the value. What passes is safe to unpack, and takes no
 * more memory than its bytes warrant.
 */
export function inspectFrame(frame: Uint8Array): void {
  const walker = new FrameWalker(frame);
  if (!isMap(frame[0])) walker.refuse("a msgpack map", frame.length === 0 ? "nothing" : "something else");
  walker.walk(0);
  if (walker.left > 0) walker.refuse("the end", `${walker.left} more bytes`);
}

/** What follows a head byte: nothing, a fixed number of bytes, or a length of this many bytes and then the bytes or items. */
type Head = "nothing" | { readonly skip: number } | { readonly length: 1 | 2 | 4; readonly of: "bytes" | "array" | "map" };

/** Head bytes from 0xc0 to 0xdf, without the reserved 0xc1 and the extension types. */
const HEADS: ReadonlyMap<number, Head> = new Map<number, Head>([
  [0xc0, "nothing"], // nil
  [0xc2, "nothing"], // false
  [0xc3, "nothing"], // true
  [0xc4, { length: 1, of: "bytes" }], // bin
  [0xc5, { length: 2, of: "bytes" }],
  [0xc6, { length: 4, of: "bytes" }],
  [0xca, { skip: 4 }], // float
  [0xcb, { skip: 8 }],
  [0xcc, { skip: 1 }], // uint 8 to 64
  [0xcd, { skip: 2 }],
  [0xce, { skip: 4 }],
  [0xcf, { skip: 8 }],
  [0xd0, { skip: 1 }], // int 8 to 64
  [0xd1, { skip: 2 }],
  [0xd2, { skip: 4 }],
  [0xd3, { skip: 8 }],
  [0xd9, { length: 1, of: "bytes" }], // str
  [0xda, { length: 2, of: "bytes" }],
  [0xdb, { length: 4, of: "bytes" }],
  [0xdc, { length: 2, of: "array" }],
  [0xdd, { length: 4, of: "array" }],
  [0xde, { length: 2, of: "map" }],
  [0xdf, { length: 4, of: "map" }],
]);

class FrameWalker {
  readonly #frame: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(frame: Uint8Array) {
    this.#frame = frame;
    this.#view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  }

  /** Bytes that have not been walked. */
  get left(): number {
    return this.#frame.length - this.#at;
  }

  refuse(expected: string, received: string): never {
    throw new RefusedError("a frame", expected, `${received} at byte ${this.#at}`);
  }

  /** Walks one value. */
  walk(depth: number): void {
    if (this.left === 0) this.refuse("a value", "the end");
    const head = this.#view.getUint8(this.#at++);
    if (head <= 0x7f || head >= 0xe0) return; // fixint
    if (head <= 0x8f) return this.#walkItems(head & 0x0f, true, depth + 1);
    if (head <= 0x9f) return this.#walkItems(head & 0x0f, false, depth + 1);
    if (head <= 0xbf) return this.#skip(head & 0x1f); // fixstr
    const follows = HEADS.get(head);
    if (follows === undefined) {
      this.#at--;
      this.refuse("a msgpack value that is no extension", `0x${head.toString(16)}`);
    }
    if (follows === "nothing") return;
    if ("skip" in follows) return this.#skip(follows.skip);
    const length = this.#length(follows.length);
    if (follows.of === "bytes") this.#skip(length);
    else this.#walkItems(length, follows.of === "map", depth + 1);
  }

  #walkItems(count: number, isMap: boolean, depth: number): void {
    if (depth > MAX_DEPTH) this.refuse(`at most ${MAX_DEPTH} levels`, "a deeper one");
    if (count > this.left) this.refuse(`at most ${this.left} items`, `${count}`);
    if (isMap && count > MAX_KEYS) this.refuse(`at most ${MAX_KEYS} keys`, `${count}`);
    for (let item = 0; item < count; item++) {
      if (isMap) {
        if (!isString(this.#frame[this.#at])) this.refuse("a string as key", "something else");
        this.walk(depth);
      }
      this.walk(depth);
    }
  }

  #skip(bytes: number): void {
    if (bytes > this.left) this.refuse(`${bytes} more bytes`, `${this.left}`);
    this.#at += bytes;
  }

  #length(bytes: 1 | 2 | 4): number {
    const start = this.#at;
    this.#skip(bytes);
    if (bytes === 1) return this.#view.getUint8(start);
    return bytes === 2 ? this.#view.getUint16(start) : this.#view.getUint32(start);
  }
}

function isMap(head: number | undefined): boolean {
  return head !== undefined && ((head >= 0x80 && head <= 0x8f) || head === 0xde || head === 0xdf);
}

function isString(head: number | undefined): boolean {
  return head !== undefined && ((head >= 0xa0 && head <= 0xbf) || (head >= 0xd9 && head <= 0xdb));
}
