import { readFileSync } from "node:fs";
import { Unpackr } from "msgpackr";
import { describe, expect, test } from "vitest";
import { decodeWorkerMessage, encode } from "../../../src/protocol/codec.ts";
import { controllerMessage } from "../../../src/protocol/messages.ts";

/** Bytes that the Python tests read, too; test/fixtures/wire/generate.py writes them with another msgpack library. */
const folder = new URL("../../fixtures/wire/", import.meta.url);
const golden = JSON.parse(readFileSync(new URL("expected.json", folder), "utf8"), spellBytes) as {
  readonly file: string;
  readonly from: "controller" | "worker";
  readonly message: object;
}[];
const cases = golden.map(({ file, ...rest }) => ({ file, bytes: new Uint8Array(readFileSync(new URL(file, folder))), ...rest }));
const plain = new Unpackr({ useRecords: false });

describe("golden bytes of the wire:", () => {
  test.each(cases.filter(({ from }) => from === "worker"))("$file decodes to the expected message", ({ bytes, message }) => {
    const data = "data" in message ? [message.data as Uint8Array] : [];
    expect(decodeWorkerMessage(bytes, ...data)).toEqual(message);
  });

  test.each(cases.filter(({ from }) => from === "controller"))("$file has the bytes that the controller encodes", ({ bytes, message }) => {
    const encoded = new Uint8Array(encode(controllerMessage.parse(message))[0] ?? []);
    expect(plain.unpack(encoded)).toEqual(plain.unpack(bytes));
    expect(plain.unpack(encoded)).toEqual(message);
  });

  test("every message type has a golden frame", () => {
    const types = new Set(golden.map(({ message }) => (message as { type: string }).type));
    expect([...types].toSorted()).toEqual([
      "beat",
      "cancel",
      "challenge",
      "chunk",
      "collect",
      "collected",
      "credit",
      "end",
      "evaluate",
      "evaluated",
      "exited",
      "failure",
      "fit",
      "fitted",
      "generate",
      "generated",
      "grant",
      "hello",
      "join",
      "keep",
      "kept",
      "kill",
      "launch",
      "load",
      "loaded",
      "placed",
      "prepare",
      "prepared",
      "proof",
      "stop",
      "text",
      "unavailable",
      "waiting",
    ]);
  });
});

/** JSON has no bytes: they are written as {"hex": …}. */
function spellBytes(_: string, value: unknown): unknown {
  return typeof value === "object" && value !== null && "hex" in value ? new Uint8Array(Buffer.from(value.hex as string, "hex")) : value;
}
