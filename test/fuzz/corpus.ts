import { readFileSync } from "node:fs";
import path from "node:path";
import { Packr } from "msgpackr";
import type { Frames } from "../../src/protocol/codec.ts";
import { PROTOCOL_VERSION } from "../../src/protocol/limits.ts";
import { hostileValues } from "./hostile.ts";
import type { Sources } from "./mutate.ts";

const packr = new Packr({ useRecords: false, variableMapSize: true });

/** The frames of a message, valid or not. */
export function pack({ data, ...message }: Record<string, unknown>): Frames {
  const isChunk = message["type"] === "chunk" && data instanceof Uint8Array;
  const map = { protocol_version: PROTOCOL_VERSION, ...message, ...(isChunk || data === undefined ? {} : { data }) };
  return [Uint8Array.from(packr.pack(map)), ...(isChunk ? [data] : [])];
}

/** Under the folder that holds package.json, where this runs. */
const WIRE = "test/fixtures/wire";

interface Golden {
  readonly file: string;
  readonly from: "controller" | "worker";
  readonly message: Readonly<Record<string, unknown>>;
}

const golden = JSON.parse(readFileSync(path.join(WIRE, "expected.json"), "utf8")) as readonly Golden[];

/** The first golden message of a type. */
export function goldenMessage(type: string): Readonly<Record<string, unknown>> {
  return golden.find(({ message }) => message["type"] === type)?.message ?? {};
}

/** Golden messages, and some that announce large tensors. */
export function messageSources(from: Golden["from"], seed: number): Sources {
  const own = golden.filter((entry) => entry.from === from || entry.message["type"] === "chunk");
  const files = own.map(({ file, message }): Frames => {
    const data = message["type"] === "chunk" ? [Uint8Array.of(1, 2, 3, 4)] : [];
    return [Uint8Array.from(readFileSync(path.join(WIRE, file))), ...data];
  });
  const announcing = (shape: number[], bytes: number, dtype = "F32") => {
    const tensors = [{ name: "rows", dtype, shape, bytes, crc32: 0, shared: null }];
    return pack({ ...goldenMessage(from === "controller" ? "fit" : "loaded"), tensors });
  };
  // Tensors of a size that agrees with their shape but exceeds any frame, or that overflows.
  const large = [2 ** 20, 2 ** 30, 2 ** 40, 2 ** 51].map((size) => announcing([1, size / 4], size));
  const beyond = [
    announcing([1e308, 1e308], 1, "I8X256"),
    announcing(
      Array.from({ length: 300 }, () => 1e308),
      1,
    ),
  ];
  const chunk = pack({ ...goldenMessage("chunk"), data: new Uint8Array(70_000) });
  return { corpus: [...files, ...files, ...files, ...files, ...large, ...beyond, chunk], hostile: hostileValues(seed) };
}
