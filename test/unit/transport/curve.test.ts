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

type Credentials = Omit<Door, "close" | "curve"> & { readonly curve?: CurveKeys };
function connect(door: Pick<Door, "endpoint" | "curve">, name: string) {
  const { dealer, until } = connectDealer(door, name);
  opened.push(dealer);
  return { dealer, until };
}

function keysOf({ curve }: Door): CurveKeys {
  if (!curve) throw new Error("a door over tcp has keys");
  return curve;
}

/** Whether it receives nothing before it is closed. */
function receivesNothing(dealer: Dealer): Promise<boolean> {
  return dealer.receive().then(
    () => false,
    () => true,
  );
}

test("over tcp every worker has its own key pair and every transport its own server key, on 127.0.0.1", async () => {
  const [{ transport }, other] = [await openTcp(), await openTcp()];
  const doors = [transport.open("w0"), transport.open("w1"), other.transport.open("w0")];
  const keys = doors.map(keysOf);
  expect(new Set(keys.flatMap(({ publicKey, secretKey }) => [publicKey, secretKey])).size).toBe(6);
  expect([keys[0]?.serverKey === keys[1]?.serverKey, keys[0]?.serverKey === keys[2]?.serverKey]).toEqual([true, false]);
  for (const { endpoint } of doors) expect(endpoint).toMatch(/^tcp:\/\/127\.0\.0\.1:\d+$/);
});

test("over ipc there are no keys", async () => {
  const transport = await zeromqTransport({ kind: "ipc" });
  opened.push(transport);
  expect(transport.open("w0").curve).toBeUndefined();
});

test.each<[string, RegExp, (door: Door, other: Door) => Credentials]>([
  ["no keys", /^handshake:error/, ({ endpoint }) => ({ endpoint })],
  ["unknown keys, and the controller's public key", /error:auth$/, (door) => ({ ...door, curve: { ...keysOf(door), ...curveKeyPair() } })],
  ["the keys of another worker", /error:auth$/, (door, other) => ({ ...door, curve: keysOf(other) })],
  [
    "the worker's public key but another secret key",
    /^handshake:error/,
    (door) => ({ ...door, curve: { ...keysOf(door), secretKey: curveKeyPair().secretKey } }),
  ],
])("a peer with %s can neither send nor receive, and disturbs nobody", async (_, refusal, forge) => {
  const { transport, frames } = await openTcp();
  const [door, other] = [transport.open("w0"), transport.open("w1")];
  const { dealer: stranger, until } = connect(forge(door, other), "w0");
  const hasReceivedNothing = receivesNothing(stranger);
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
  expect(await hasReceivedNothing).toBe(true);
});

test("a worker that connects under another's name can neither send nor receive for it", async () => {
  const { transport, frames } = await openTcp();
  const [first, second] = [transport.open("w0"), transport.open("w1")];
  const { dealer: liar, until } = connect(first, "w1");
  expect(await until("handshake")).toBe("handshake");
  await liar.send("I am w1");
  const hasReceivedNothing = receivesNothing(liar);

  await expect(transport.send("w1", Uint8Array.of(1))).rejects.toMatchObject({ kind: "refused", message: expect.stringContaining("w1") });
  const [{ dealer: honest }, { dealer: other }] = [connect(first, "w0"), connect(second, "w1")];
  for (const [name, worker] of [...Array.from({ length: 50 }, () => ["w0", honest] as const), ["w1", other] as const]) {
    await worker.send(`I am ${name}`);
    expect((await frames.next()).value).toEqual({ peer: name, frame: new Uint8Array(Buffer.from(`I am ${name}`)) });
    await transport.send(name, Uint8Array.of(7));
    expect(await worker.receive()).toEqual([Buffer.of(7)]);
  }
  liar.close();
  expect(await hasReceivedNothing).toBe(true);
});

test("the keys of one transport are refused by another that has a worker with the same name", async () => {
  const [here, there] = [await openTcp(), await openTcp()];
  const [ours, theirs] = [here.transport.open("w0"), there.transport.open("w0")];
  const stranger = connect({ endpoint: theirs.endpoint, curve: { ...keysOf(ours), serverKey: keysOf(theirs).serverKey } }, "w0");
  expect(await stranger.until("handshake")).toBe("handshake:error:auth");
  await here.transport.close();
  expect(await connect(theirs, "w0").until("handshake")).toBe("handshake");
});

test("a closed door ends its connection, and its keys open no other door", async () => {
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

test("the key of a closed door is revoked", async () => {
  const { transport } = await openTcp();
  const { options, revoke } = admit(curveKeyPair().publicKey);
  opened.push({ close: revoke });
  const door = transport.open("w0");
  const zapDomain = `prelort-${Number(options.zapDomain?.split("-")[1]) + 1}`;
  /** Connects to another socket that checks for the same key. */
  const tryKey = () => {
    const server = curveKeyPair();
    const router = new Router({ ...options, zapDomain, linger: 0, curveServer: true, curveSecretKey: server.secretKey });
    opened.unshift(router);
    router.bindSync("tcp://127.0.0.1:*");
    const curve = { ...keysOf(door), serverKey: server.publicKey };
    return connect({ endpoint: router.lastEndpoint ?? "", curve }, "w0").until("handshake");
  };
  expect(await tryKey()).toBe("handshake");
  door.close();
  expect(await tryKey()).toBe("handshake:error:auth");
});
