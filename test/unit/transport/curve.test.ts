import { curveKeyPair, type Dealer, Router } from "zeromq";
import { afterEach, expect, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import type { CurveKeys, Door } from "../../../src/transport/transport.ts";
import { admit } from "../../../src/transport/zap.ts";
import { zeromqTransport } from "../../../src/transport/zeromq.ts";
import { connectDealer } from "../../support/dealer.ts";

const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const item of opened.splice(0)) await item.close();
});

async function openTcp() {
  const transport = await zeromqTransport({ kind: "tcp" });
  opened.push(transport);
  return { transport, frames: transport.receive()[Symbol.asyncIterator]() };
}

type Knock = Omit<Door, "close" | "curve"> & { readonly curve?: CurveKeys };
function connect(door: Pick<Door, "endpoint" | "curve">, name: string) {
  const { dealer, until } = connectDealer(door, name);
  opened.push(dealer);
  return { dealer, until };
}

function keysOf({ curve }: Door): CurveKeys {
  if (!curve) throw new Error("there are keys over tcp");
  return curve;
}

/** Whether nothing has come by the time it is closed. */
function nothingOf(dealer: Dealer): Promise<boolean> {
  return dealer.receive().then(
    () => false,
    () => true,
  );
}

test("every worker has a pair of its own and every transport a key of its own, on 127.0.0.1", async () => {
  const [{ transport }, other] = [await openTcp(), await openTcp()];
  const doors = [transport.open("w0"), transport.open("w1"), other.transport.open("w0")];
  const keys = doors.map(keysOf);
  expect(new Set(keys.flatMap(({ publicKey, secretKey }) => [publicKey, secretKey])).size).toBe(6);
  expect([keys[0]?.serverKey === keys[1]?.serverKey, keys[0]?.serverKey === keys[2]?.serverKey]).toEqual([true, false]);
  for (const { endpoint } of doors) expect(endpoint).toMatch(/^tcp:\/\/127\.0\.0\.1:\d+$/);
});

test("over ipc there are none", async () => {
  const transport = await zeromqTransport({ kind: "ipc" });
  opened.push(transport);
  expect(transport.open("w0").curve).toBeUndefined();
});

test.each<[string, RegExp, (door: Door, other: Door) => Knock]>([
  ["no keys", /^handshake:error/, ({ endpoint }) => ({ endpoint })],
  [
    "keys that nobody knows, and the controller's own key",
    /error:auth$/,
    (door) => ({ ...door, curve: { ...keysOf(door), ...curveKeyPair() } }),
  ],
  ["the keys of another worker", /error:auth$/, (door, other) => ({ ...door, curve: keysOf(other) })],
  [
    "the worker's public key without its secret one",
    /^handshake:error/,
    (door) => ({ ...door, curve: { ...keysOf(door), secretKey: curveKeyPair().secretKey } }),
  ],
])("a peer with %s gets nothing in and nothing out, and disturbs nobody", async (_, refusal, forge) => {
  const { transport, frames } = await openTcp();
  const [door, other] = [transport.open("w0"), transport.open("w1")];
  const { dealer: stranger, until } = connect(forge(door, other), "w0");
  const got = nothingOf(stranger);
  void stranger.send("from a stranger").catch(() => {});
  expect(await until("handshake")).toMatch(refusal);
  await expect(transport.send("w0", Uint8Array.of(1))).rejects.toThrow(RefusedError);

  const { dealer: worker } = connect(door, "w0");
  for (let i = 0; i < 50; i++) {
    await worker.send(`${i}`);
    expect((await frames.next()).value).toEqual({ peer: "w0", frame: new Uint8Array(Buffer.from(`${i}`)) });
    await transport.send("w0", Uint8Array.of(i));
    expect(await worker.receive()).toEqual([Buffer.of(i)]);
  }
  stranger.close();
  expect(await got).toBe(true);
});

test("a worker that says it is another is not heard, and hears nothing that is for the other", async () => {
  const { transport, frames } = await openTcp();
  const [first, second] = [transport.open("w0"), transport.open("w1")];
  const { dealer: liar, until } = connect(first, "w1");
  expect(await until("handshake")).toBe("handshake");
  await liar.send("I am w1");
  const got = nothingOf(liar);

  await expect(transport.send("w1", Uint8Array.of(1))).rejects.toThrow("a frame to w1: expected a connected peer");
  const [{ dealer: honest }, { dealer: other }] = [connect(first, "w0"), connect(second, "w1")];
  for (const [name, worker] of [...Array.from({ length: 50 }, () => ["w0", honest] as const), ["w1", other] as const]) {
    await worker.send(`I am ${name}`);
    expect((await frames.next()).value).toEqual({ peer: name, frame: new Uint8Array(Buffer.from(`I am ${name}`)) });
    await transport.send(name, Uint8Array.of(7));
    expect(await worker.receive()).toEqual([Buffer.of(7)]);
  }
  liar.close();
  expect(await got).toBe(true);
});

test("keys of one transport open nothing in another that has a worker of that name", async () => {
  const [here, there] = [await openTcp(), await openTcp()];
  const [ours, theirs] = [here.transport.open("w0"), there.transport.open("w0")];
  const stranger = connect({ endpoint: theirs.endpoint, curve: { ...keysOf(ours), serverKey: keysOf(theirs).serverKey } }, "w0");
  expect(await stranger.until("handshake")).toBe("handshake:error:auth");
  await here.transport.close();
  expect(await connect(theirs, "w0").until("handshake")).toBe("handshake");
});

test("a closed door ends the connection behind it, and its keys open no other", async () => {
  const { transport, frames } = await openTcp();
  const [door, other] = [transport.open("w0"), transport.open("w1")];
  const worker = connect(door, "w0");
  await worker.dealer.send("here");
  await frames.next();
  door.close();
  door.close();
  await worker.until("disconnect");
  await expect(transport.send("w0", Uint8Array.of(1))).rejects.toThrow(RefusedError);
  expect(await connect({ endpoint: other.endpoint, curve: keysOf(door) }, "w0").until("handshake")).toBe("handshake:error:auth");
  expect(await connect(other, "w1").until("handshake")).toBe("handshake");
});

test("the key of a closed door is struck off the list", async () => {
  const { transport } = await openTcp();
  const { options, revoke } = admit(curveKeyPair().publicKey);
  opened.push({ close: revoke });
  const door = transport.open("w0");
  const zapDomain = `prelort-${Number(options.zapDomain?.split("-")[1]) + 1}`;
  /** At a socket that asks about the same list entry as the one behind the door. */
  const knock = () => {
    const server = curveKeyPair();
    const router = new Router({ ...options, zapDomain, linger: 0, curveServer: true, curveSecretKey: server.secretKey });
    opened.unshift(router);
    router.bindSync("tcp://127.0.0.1:*");
    const curve = { ...keysOf(door), serverKey: server.publicKey };
    return connect({ endpoint: router.lastEndpoint ?? "", curve }, "w0").until("handshake");
  };
  expect(await knock()).toBe("handshake");
  door.close();
  expect(await knock()).toBe("handshake:error:auth");
});
