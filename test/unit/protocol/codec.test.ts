import { describe, expect, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { decodeWorkerMessage, encode } from "../../../src/protocol/codec.ts";
import type { ControllerMessage } from "../../../src/protocol/messages.ts";
import { MAX_FRAME_BYTES } from "../../../src/protocol/limits.ts";

/** Bytes from hex with spaces, and text in quotes: `81 "a" 01`. */
function frame(notation: string): Uint8Array {
  const parts = notation.match(/"[^"]*"|[0-9a-f]{2}/g) ?? [];
  return Uint8Array.from(
    parts.flatMap((part) => (part.startsWith('"') ? [...Buffer.from(part.slice(1, -1))] : [Number.parseInt(part, 16)])),
  );
}

const VERSION = 'b0 "protocol_version" 08';
/** {type: "credit", protocol_version: 8, bytes: …} with that value for bytes. */
const credit = (bytes: string) => frame(`83 a4 "type" a6 "credit" ${VERSION} a5 "bytes" ${bytes}`);

describe("encode", () => {
  test("writes plain msgpack maps with string keys", () => {
    expect(encode({ type: "stop", protocol_version: 8 })).toEqual(Buffer.from(frame(`82 ${VERSION} a4 "type" a4 "stop"`)));
  });

  test("writes chunk data as bin, from any view", () => {
    const memory = Uint8Array.of(9, 1, 2, 3, 9);
    const message = {
      type: "chunk",
      protocol_version: 8,
      task_id: "t",
      attempt: 1,
      tensor: "rows",
      offset: 0,
      data: memory.subarray(1, 4),
    } as const;
    expect(Buffer.from(encode(message)).toString("hex")).toContain(Buffer.from(frame('a4 "data" c4 03 01 02 03')).toString("hex"));
  });

  test("writes integers beyond 32 bits as integers, which msgpackr by itself would not", () => {
    const hex = Buffer.from(encode({ type: "credit", protocol_version: 8, bytes: 2 ** 33 })).toString("hex");
    expect(hex).toContain(Buffer.from(frame('a5 "bytes" d3 00 00 00 02 00 00 00 00')).toString("hex"));
  });

  test.each([
    [
      "a Float32Array, which msgpackr would corrupt",
      { type: "chunk", task_id: "t", attempt: 1, tensor: "rows", offset: 0, data: new Float32Array(1) },
    ],
    ["undefined, which msgpackr writes as an extension", { type: "credit", bytes: undefined }],
    ["NaN", { type: "credit", bytes: Number.NaN }],
    ["a key the contract does not have", { type: "stop", extra: 1 }],
  ])("does not send %s", (_, message) => {
    expect(() => encode({ protocol_version: 8, ...message } as unknown as ControllerMessage)).toThrow();
  });
});

describe("decodeWorkerMessage", () => {
  test.each([
    ["fixint", "07", 7],
    ["uint 8", "cc ff", 255],
    ["uint 64", "cf 00 00 00 02 00 00 00 00", 2 ** 33],
    ["an integral float", "cb 40 1c 00 00 00 00 00 00", 7],
  ])("reads a count written as %s", (_, bytes, value) => {
    expect(decodeWorkerMessage(credit(bytes))).toEqual({ type: "credit", protocol_version: 8, bytes: value });
  });

  test("reads chunk data that lies misaligned in its frame", () => {
    const header = `87 ${VERSION} a4 "type" a5 "chunk" a7 "task_id" a1 "t" a7 "attempt" 01 a6 "tensor" a4 "rows" a6 "offset" 00 a4 "data"`;
    for (const padding of ["", "00 ", "00 00 ", "00 00 00 "]) {
      const skipped = padding.length / 3;
      const message = decodeWorkerMessage(frame(`${padding}${header} c4 04 00 00 80 3f`).subarray(skipped));
      expect(message).toMatchObject({ type: "chunk", data: expect.objectContaining({ 0: 0, 1: 0, 2: 0x80, 3: 0x3f, length: 4 }) });
    }
  });

  test("names another protocol version before anything else is looked at", () => {
    const hello = frame('82 a4 "type" a5 "hello" b0 "protocol_version" 01');
    expect(() => decodeWorkerMessage(hello)).toThrow("message hello speaks another protocol version: expected 8, got 1");
  });

  test.each([
    ["nothing", frame(""), "a msgpack map, got nothing"],
    ["no map", frame("93 01 02 03"), "a msgpack map"],
    ["noise", frame("de ad be ef 00"), "items"],
    ["an extension that means undefined", credit("d4 00 01"), "no extension, got 0xd4"],
    ["a timestamp", credit("d6 ff 00 00 00 00"), "no extension, got 0xd6"],
    ["a typed array in disguise", credit("c7 02 74 01 07"), "no extension, got 0xc7"],
    ["the reserved byte", credit("c1"), "no extension, got 0xc1"],
    ["an integer as key", frame("81 01 01"), "a string as key"],
    ["a string longer than the frame", credit("db ff ff ff ff"), "4294967295 more bytes"],
    ["an array longer than the frame", credit("dd ff ff ff ff"), "items, got 4294967295"],
    ["a map longer than the frame", credit("df ff ff ff ff"), "items, got 4294967295"],
    ["a map of more keys than any message has", credit(`de 03 e9 ${'a1 "k" c0 '.repeat(1001)}`), "at most 1000 keys, got 1001"],
    ["a message cut short", credit("cc ff").subarray(0, -1), "1 more bytes, got 0"],
    ["bytes after the message", frame(`82 a4 "type" a6 "credit" ${VERSION} c0`), "the end, got 1 more bytes"],
    ["deep nesting", credit("91 ".repeat(5000) + "01"), "8 levels"],
    ["a number that is not finite", credit("cb 7f f8 00 00 00 00 00 00"), "bytes: "],
    ["a wrong type", credit('a1 "7"'), "message credit: expected the fields"],
    ["a missing field", frame(`82 a4 "type" a6 "credit" ${VERSION}`), "bytes: "],
    ["an unknown field", frame(`84 a4 "type" a6 "credit" ${VERSION} a5 "bytes" 01 a1 "x" 01`), "x"],
    ["an unknown type", frame(`82 a4 "type" a4 "what" ${VERSION}`), "message what"],
    ["a controller's message", frame(`82 a4 "type" a4 "stop" ${VERSION}`), "message stop"],
    ["a frame over the limit", new Uint8Array(MAX_FRAME_BYTES + 1), `${MAX_FRAME_BYTES} bytes`],
  ])("refuses %s and says so", (_, bytes, said) => {
    const decode = () => decodeWorkerMessage(bytes);
    expect(decode).toThrow(RefusedError);
    expect(decode).toThrow(said);
  });

  test.each([1000, 5_000_000])("tells of the first alone of %d wrong items, of which all would fill the memory", (count) => {
    const length = count.toString(16).padStart(8, "0").replaceAll(/(..)/g, "$1 ");
    const header = frame(
      `86 ${VERSION} a4 "type" a9 "evaluated" a7 "task_id" a1 "t" a7 "attempt" 01 a7 "seconds" 01 a5 "tiers" dd ${length}`,
    );
    const decode = () => decodeWorkerMessage(Buffer.concat([header, Buffer.alloc(count, 0xc0)]));
    expect(decode).toThrow(RefusedError);
    expect(decode).toThrow(/got tiers\.0: [^;]*$/);
  });
});
