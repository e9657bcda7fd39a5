import { unpack } from "msgpackr";
import { describe, expect, test } from "vitest";
import { RefusedError, RunFailedError } from "../../../src/errors.ts";
import { decodeWorkerMessage, encode } from "../../../src/protocol/codec.ts";
import type { ControllerMessage } from "../../../src/protocol/messages.ts";
import { MAX_FRAME_BYTES } from "../../../src/protocol/limits.ts";

/** Bytes from spaced hex and quoted text: `81 "a" 01`. */
function frame(notation: string): Uint8Array {
  const parts = notation.match(/"[^"]*"|[0-9a-f]{2}/g) ?? [];
  return Uint8Array.from(
    parts.flatMap((part) => (part.startsWith('"') ? [...Buffer.from(part.slice(1, -1))] : [Number.parseInt(part, 16)])),
  );
}

const VERSION = 'b0 "protocol_version" 0f';
/** {type: "credit", protocol_version: 15, bytes: …} with this value for bytes. */
const credit = (bytes: string) => frame(`83 a4 "type" a6 "credit" ${VERSION} a5 "bytes" ${bytes}`);

/** The map of a chunk of one float, without its data. */
const chunk = (more = "", count = "6") =>
  frame(`8${count} ${VERSION} a4 "type" a5 "chunk" a7 "task_id" a1 "t" a7 "attempt" 01 a6 "tensor" a4 "rows" a6 "offset" 00 ${more}`);
const data = Uint8Array.of(0, 0, 0x80, 0x3f);

describe("encode", () => {
  test("writes plain msgpack maps with string keys", () => {
    expect(encode({ type: "stop", protocol_version: 15 })).toEqual([Buffer.from(frame(`82 ${VERSION} a4 "type" a4 "stop"`))]);
  });

  test("sends a chunk's data as a frame of its own, which is not copied", () => {
    const ids = { type: "chunk", protocol_version: 15, task_id: "t", attempt: 1, tensor: "rows", offset: 0 } as const;
    const [map, sent, ...others] = encode({ ...ids, data });
    expect(unpack(map ?? data)).toEqual(ids);
    expect(sent).toBe(data);
    expect(others).toEqual([]);
  });

  test("writes integers beyond 32 bits as integers, unlike plain msgpackr", () => {
    const [map = data] = encode({ type: "credit", protocol_version: 15, bytes: 2 ** 33 });
    expect(Buffer.from(map).toString("hex")).toContain(Buffer.from(frame('a5 "bytes" d3 00 00 00 02 00 00 00 00')).toString("hex"));
  });

  test.each([
    [
      "a Float32Array, which msgpackr would corrupt",
      { type: "chunk", task_id: "t", attempt: 1, tensor: "rows", offset: 0, data: new Float32Array(1) },
    ],
    ["undefined, which msgpackr writes as an extension", { type: "credit", bytes: undefined }],
    ["NaN", { type: "credit", bytes: Number.NaN }],
    ["a key that the contract lacks", { type: "stop", extra: 1 }],
  ])("refuses to send %s", (_, message) => {
    expect(() => encode({ protocol_version: 15, ...message } as unknown as ControllerMessage)).toThrow(RunFailedError);
  });
});

describe("decodeWorkerMessage", () => {
  test.each([
    ["fixint", "07", 7],
    ["uint 8", "cc ff", 255],
    ["uint 64", "cf 00 00 00 02 00 00 00 00", 2 ** 33],
    ["an integral float", "cb 40 1c 00 00 00 00 00 00", 7],
  ])("reads a count written as %s", (_, bytes, value) => {
    expect(decodeWorkerMessage(credit(bytes))).toEqual({ type: "credit", protocol_version: 15, bytes: value });
  });

  test("reads a chunk's data from its second frame, which is not copied", () => {
    const message = decodeWorkerMessage(chunk(), data);
    expect(message).toMatchObject({ type: "chunk", task_id: "t", tensor: "rows", offset: 0 });
    expect(message.type === "chunk" && message.data).toBe(data);
  });

  test.each([
    ["a chunk without data", [chunk()], /\bmessage chunk\b.*\bsecond frame\b.*\b1 frames\b/],
    ["a chunk with its data in the map", [chunk('a4 "data" c4 04 00 00 80 3f', "7")], /\bmessage chunk\b.*\bsecond frame\b/],
    ["a chunk with data in both", [chunk('a4 "data" c4 04 00 00 80 3f', "7"), data], /\bmessage chunk\b.*\bsecond frame\b/],
    ["a chunk with two frames of data", [chunk(), data, data], /\bmessage chunk\b.*\b3 frames\b/],
    ["data with another message", [credit("07"), data], /\bmessage credit\b.*\bone frame\b.*\b2 frames\b/],
    ["data before its map", [data, chunk()], /\bmap\b/],
    ["data over the limit of a frame", [chunk(), new Uint8Array(MAX_FRAME_BYTES + 1)], new RegExp(`\\b${MAX_FRAME_BYTES} bytes\\b`)],
    ["a message without frames", [], /\bmap\b.*\bnothing\b/],
  ])("refuses %s", (_, frames, problem) => {
    expect(() => decodeWorkerMessage(...frames)).toThrow(RefusedError);
    expect(() => decodeWorkerMessage(...frames)).toThrow(problem);
  });

  test("refuses another protocol version before it checks anything else", () => {
    const hello = frame('82 a4 "type" a5 "hello" b0 "protocol_version" 01');
    const refusal = { kind: "refused", expected: "15", received: "1", message: expect.stringMatching(/\bhello\b.*\bversion\b/) };
    expect(() => decodeWorkerMessage(hello)).toThrow(expect.objectContaining(refusal));
  });

  test.each([
    ["an empty frame", frame(""), /\bmap\b.*\bnothing\b/],
    ["an array instead of a map", frame("93 01 02 03"), /\bmap\b/],
    ["noise", frame("de ad be ef 00"), /\bitems\b/],
    ["an extension that means undefined", credit("d4 00 01"), /\b0xd4\b/],
    ["a timestamp", credit("d6 ff 00 00 00 00"), /\b0xd6\b/],
    ["a typed array in disguise", credit("c7 02 74 01 07"), /\b0xc7\b/],
    ["the reserved byte", credit("c1"), /\b0xc1\b/],
    ["an integer as a key", frame("81 01 01"), /\bkey\b/],
    ["a string longer than the frame", credit("db ff ff ff ff"), /\b4294967295\b.*\bbytes\b/],
    ["an array longer than the frame", credit("dd ff ff ff ff"), /\bitems\b.*\b4294967295\b/],
    ["a map longer than the frame", credit("df ff ff ff ff"), /\bitems\b.*\b4294967295\b/],
    ["a map with more keys than any message has", credit(`de 03 e9 ${'a1 "k" c0 '.repeat(1001)}`), /\b1000 keys\b.*\b1001\b/],
    ["a truncated message", credit("cc ff").subarray(0, -1), /\b1 more bytes\b.*\b0\b/],
    ["bytes after the message", frame(`82 a4 "type" a6 "credit" ${VERSION} c0`), /\b1 more bytes\b/],
    ["deep nesting", credit("91 ".repeat(5000) + "01"), /\b8 levels\b/],
    ["a number that is not finite", credit("cb 7f f8 00 00 00 00 00 00"), /\bmessage credit\b.*\bbytes: /],
    ["a value of the wrong type", credit('a1 "7"'), /\bmessage credit\b.*\bbytes: /],
    ["a missing field", frame(`82 a4 "type" a6 "credit" ${VERSION}`), /\bmessage credit\b.*\bbytes: /],
    ["an unknown field", frame(`84 a4 "type" a6 "credit" ${VERSION} a5 "bytes" 01 a1 "x" 01`), /\bmessage credit\b.*"x"/],
    ["an unknown type", frame(`82 a4 "type" a4 "what" ${VERSION}`), /\bmessage what\b/],
    ["a controller's message", frame(`82 a4 "type" a4 "stop" ${VERSION}`), /\bmessage stop\b/],
    ["a frame over the limit", new Uint8Array(MAX_FRAME_BYTES + 1), new RegExp(`\\b${MAX_FRAME_BYTES} bytes\\b`)],
  ])("refuses %s and names the fault", (_, bytes, message) => {
    const decode = () => decodeWorkerMessage(bytes);
    expect(decode).toThrow(RefusedError);
    expect(decode).toThrow(message);
  });

  test.each([1000, 5_000_000])("reports only the first of %d wrong items, since all of them could exhaust memory", (count) => {
    const length = count.toString(16).padStart(8, "0").replaceAll(/(..)/g, "$1 ");
    const header = frame(
      `89 ${VERSION} a4 "type" a9 "evaluated" a7 "task_id" a1 "t" a7 "attempt" 01 a7 "samples" 90 a7 "seconds" 01 a7 "tensors" 90 a7 "metrics" 90 a7 "columns" dd ${length}`,
    );
    const decode = () => decodeWorkerMessage(Buffer.concat([header, Buffer.alloc(count, 0xc0)]));
    expect(decode).toThrow(RefusedError);
    expect(decode).toThrow(expect.objectContaining({ received: expect.stringMatching(/^columns\.0: [^;]*$/) }));
  });
});
