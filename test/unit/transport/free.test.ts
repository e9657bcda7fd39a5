import { expect, onTestFinished, test } from "vitest";
import { free } from "../../../src/transport/free.ts";
import { zeromqTransport } from "../../../src/transport/zeromq.ts";
import { connectDealer } from "../../support/dealer.ts";

test("freed memory is empty in every view of it", () => {
  const memory = new Uint8Array(100).fill(7);
  const view = memory.subarray(10, 20);
  free(view);
  expect([memory.length, view.length, memory.buffer.byteLength]).toEqual([0, 0, 0]);
});

test("the memory of a large frame is freed as soon as the next message is asked for", async () => {
  const transport = await zeromqTransport({ kind: "ipc" });
  onTestFinished(() => transport.close());
  const { dealer } = connectDealer(transport.open("w0"), "w0");
  onTestFinished(() => dealer.close());
  const messages = transport.receive()[Symbol.asyncIterator]();
  await dealer.send([new Uint8Array(8), new Uint8Array(1 << 20)]);
  const { value } = await messages.next();
  const sizes = () => value.frames.map(({ length }: Uint8Array) => length);
  expect(sizes()).toEqual([8, 1 << 20]);
  await dealer.send(new Uint8Array(1));
  await messages.next();
  expect(sizes()).toEqual([8, 0]);
});
