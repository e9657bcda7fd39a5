import { curveKeyPair, Dealer } from "zeromq";
import { afterEach, expect, test, vi } from "vitest";
import { EnvironmentError, RefusedError } from "../../../src/errors.ts";
import { securityOf } from "../../../src/testing/join.ts";
import type { Door } from "../../../src/transport/transport.ts";
import { type TcpOptions, tcpTransport } from "../../../src/transport/tcp.ts";
import { connectDealer, enter, joinWith } from "../../support/dealer.ts";
import { PATIENCE_MS } from "../../support/patience.ts";

const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const item of opened.splice(0)) await item.close();
});

/** A transport, and what comes from its workers: each message as `name: text`. */
function openTcp(options: TcpOptions = {}) {
  const transport = tcpTransport(options);
  opened.push(transport);
  const received: string[] = [];
  const waiting: (() => void)[] = [];
  void (async () => {
    for await (const { peer, frames } of transport.receive()) {
      received.push(`${peer}: ${Buffer.concat(frames).toString()}`);
      for (const wake of waiting.splice(0)) wake();
    }
  })();
  const heard = async (line: string) => {
    while (!received.includes(line)) await new Promise<void>((resolve) => waiting.push(resolve));
  };
  return { transport, received, heard };
}

async function entered(door: Door, name: string): Promise<Dealer> {
  const { dealer } = await enter(door, name);
  opened.unshift(dealer);
  return dealer;
}

/** Whether nothing has come by the time it is closed. */
function nothingOf(dealer: Dealer): Promise<boolean> {
  return dealer.receive().then(
    () => false,
    () => true,
  );
}

test("all workers of a transport have one endpoint, on 127.0.0.1, and one server key, which no other transport has", () => {
  const [here, there] = [openTcp().transport, openTcp().transport];
  const [a, b, c] = [here.open("w0"), here.open("w1"), there.open("w0")];
  expect(a.endpoint).toMatch(/^tcp:\/\/127\.0\.0\.1:\d+$/);
  expect([b.endpoint, b.serverKey]).toEqual([a.endpoint, a.serverKey]);
  expect([c.endpoint === a.endpoint, c.serverKey === a.serverKey]).toEqual([false, false]);
});

test("workers are told the advertised address, with the port that was found free", async () => {
  const { transport } = openTcp({ host: "0.0.0.0", advertise: "localhost" });
  const door = transport.open("w0");
  expect(door.endpoint).toMatch(/^tcp:\/\/localhost:\d+$/);
  await entered(door, "w0");
});

test("the first free port of the range is taken; where there is none, the range is named", () => {
  const port = Number(/\d+$/.exec(openTcp().transport.open("w0").endpoint)?.[0]);
  expect(() => openTcp({ ports: [port, port] })).toThrow(EnvironmentError);
  expect(() => openTcp({ ports: [port, port] })).toThrow(new RegExp(`from ${port} to ${port}`));
  // Whoever takes a port of these meanwhile makes the next one the first that is free.
  const endpoint = openTcp({ ports: [port, Math.min(65535, port + 200)] }).transport.open("w0").endpoint;
  expect(Number(/\d+$/.exec(endpoint)?.[0])).toBeGreaterThan(port);
});

test("a name that resolves to both kinds of address reaches a controller that listens on IPv4 alone", async () => {
  const { transport, heard } = openTcp({ host: "127.0.0.1", advertise: "localhost" });
  const dealer = await entered(transport.open("w0"), "w0");
  await dealer.send("here");
  await heard("w0: here");
});

test("an address that this machine does not have is an error that names the option", () => {
  expect(() => openTcp({ host: "192.0.2.1" })).toThrow(/workers\.host: could not listen at 192\.0\.2\.1/);
});

test.each<[string, (keys: { publicKey: string; secretKey: string }, serverKey: string) => Dealer]>([
  ["no keys", () => new Dealer({ linger: 0 })],
  [
    "a worker's public key without its secret one",
    ({ publicKey }, curveServerKey) =>
      new Dealer({ linger: 0, curveServerKey, curvePublicKey: publicKey, curveSecretKey: curveKeyPair().secretKey }),
  ],
])("a peer with %s gets nothing in and nothing out, and disturbs nobody", async (_, forge) => {
  const { transport, received, heard } = openTcp();
  const door = transport.open("w0");
  const keys = curveKeyPair();
  door.admit(keys.publicKey);
  const stranger = forge(keys, door.serverKey ?? "");
  const { events } = stranger;
  stranger.connect(door.endpoint);
  void stranger.send("from a stranger").catch(() => {});
  while (!(await events.receive()).type.startsWith("handshake:error"));
  const got = nothingOf(stranger);
  await expect(transport.send("w0", Uint8Array.of(1))).rejects.toThrow(RefusedError);

  const { dealer } = await joinWith(connectDealer(door, keys), door, { workerId: "w0", keys });
  opened.unshift(dealer);
  await dealer.send("hello");
  await heard("w0: hello");
  await transport.send("w0", Uint8Array.of(7));
  expect(await dealer.receive()).toEqual([Buffer.of(7)]);
  stranger.close();
  expect([await got, received]).toEqual([true, ["w0: hello"]]);
});

test("a worker with a listed key that claims to be another is not heard, and hears nothing that is for the other", async () => {
  const { transport, received, heard } = openTcp();
  const [first, second] = [transport.open("w0"), transport.open("w1")];
  const [own, others] = [curveKeyPair(), curveKeyPair()];
  first.admit(own.publicKey);
  second.admit(others.publicKey);
  // It answers the challenge, with the only key that it has.
  const { dealer: liar } = await joinWith(connectDealer(first, own), first, { workerId: "w1", keys: own });
  opened.unshift(liar);
  await liar.send("I am w1");
  const got = nothingOf(liar);

  const { dealer: honest } = await joinWith(connectDealer(second, others), second, { workerId: "w1", keys: others });
  opened.unshift(honest);
  await honest.send("really");
  await heard("w1: really");
  await transport.send("w1", Uint8Array.of(7));
  expect(await honest.receive()).toEqual([Buffer.of(7)]);
  liar.close();
  expect([await got, received]).toEqual([true, ["w1: really"]]);
});

test("a key gets in once: a second connection with it is refused", async () => {
  const { transport, received, heard } = openTcp();
  const door = transport.open("w0");
  const keys = curveKeyPair();
  door.admit(keys.publicKey);
  const [a, b] = [connectDealer(door, keys), connectDealer(door, keys)];
  opened.unshift(a.dealer, b.dealer);
  const outcomes = await Promise.all([a.until("handshake"), b.until("handshake")]);
  expect(outcomes.toSorted()).toEqual(["handshake", "handshake:error:auth"]);
  const { dealer } = await joinWith(outcomes[0] === "handshake" ? a : b, door, { workerId: "w0", keys });
  await dealer.send("first");
  await heard("w0: first");
  expect(received).toEqual(["w0: first"]);
});

test("a peer whose routing id could be foreseen cannot join", async () => {
  const { transport, received, heard } = openTcp();
  const door = transport.open("w0");
  const keys = curveKeyPair();
  door.admit(keys.publicKey);
  // Left to the ROUTER, it is a counter.
  const dealer = new Dealer({ linger: 0, ...securityOf({ serverKey: door.serverKey ?? "", ...keys }) });
  const { events } = dealer;
  dealer.connect(door.endpoint);
  const never = joinWith({ dealer, routingId: "" }, door, { workerId: "w0", keys }).then(
    () => false,
    () => true,
  );
  while ((await events.receive()).type !== "handshake");
  const worker = await entered(transport.open("w1"), "w1");
  await worker.send("after it");
  await heard("w1: after it");
  dealer.close();
  expect([await never, received]).toEqual([true, ["w1: after it"]]);
});

test("one launch has one key: a second is refused", () => {
  const door = openTcp().transport.open("w0");
  door.admit(curveKeyPair().publicKey);
  expect(() => door.admit(curveKeyPair().publicKey)).toThrow(RefusedError);
});

test("once a door is closed, what comes through it is dropped, nothing is sent, and its key opens nothing", async () => {
  const { transport, received, heard } = openTcp();
  const [door, other] = [transport.open("w0"), transport.open("w1")];
  const keys = curveKeyPair();
  const { dealer } = await enter(door, "w0", keys);
  opened.unshift(dealer);
  await dealer.send("here");
  await heard("w0: here");
  door.close();
  door.close();
  await dealer.send("still here");
  await expect(transport.send("w0", Uint8Array.of(1))).rejects.toThrow(RefusedError);
  const again = connectDealer(door, keys);
  opened.unshift(again.dealer);
  expect(await again.until("handshake")).toBe("handshake:error:auth");
  const worker = await entered(other, "w1");
  await worker.send("after it");
  await heard("w1: after it");
  expect(received).toEqual(["w0: here", "w1: after it"]);
});

test("a frame to a worker whose connection is gone names the worker, and not its routing id", async () => {
  const { transport, heard } = openTcp();
  const dealer = await entered(transport.open("w0"), "w0");
  await dealer.send("here");
  await heard("w0: here");
  dealer.close();
  await vi.waitFor(() => expect(transport.send("w0", Uint8Array.of(1))).rejects.toThrow(/^a frame to w0: /), { timeout: PATIENCE_MS });
});
