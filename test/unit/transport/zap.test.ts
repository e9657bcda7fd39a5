import { setImmediate } from "node:timers/promises";
import { curveKeyPair, Router } from "zeromq";
import { afterEach, expect, test } from "vitest";
import { createGate, type GateLimits } from "../../../src/transport/zap.ts";
import { connectDealer } from "../../support/dealer.ts";

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const item of opened.splice(0)) item.close();
});

/** A socket behind a gate that lets one key in, and a try to get in. */
function guarded({ limits, isListed = true }: { readonly limits?: GateLimits; readonly isListed?: boolean } = {}) {
  const [server, keys] = [curveKeyPair(), curveKeyPair()];
  const gate = createGate(limits ?? { maxWaiting: () => 64, patienceMs: 3_600_000 });
  if (isListed) gate.admit(keys.publicKey);
  const router = new Router({ linger: 0, curveServer: true, curveSecretKey: server.secretKey, ...gate.options });
  opened.push(gate, router);
  router.bindSync("tcp://127.0.0.1:*");
  const knock = (own = keys) => {
    const { dealer, until } = connectDealer({ endpoint: router.lastEndpoint ?? "", serverKey: server.publicKey }, own);
    opened.push(dealer);
    return until("handshake");
  };
  return { keys, gate, knock };
}

const impatient: GateLimits = { maxWaiting: () => 64, patienceMs: 1 };

test("a listed key gets in once, and another does not", async () => {
  const { gate, knock } = guarded({ limits: impatient });
  const later = curveKeyPair();
  expect([await knock(curveKeyPair()), await knock(), await knock()]).toEqual([
    "handshake:error:auth",
    "handshake",
    "handshake:error:auth",
  ]);
  gate.admit(later.publicKey);
  expect(await knock(later)).toBe("handshake");
});

test("every byte of a key counts", async () => {
  for (let i = 0; i < 20; i++) expect(await guarded().knock()).toBe("handshake");
});

test("a peer whose key is not known yet waits, and gets in once its key is listed; others get in meanwhile", async () => {
  const { gate, knock } = guarded();
  const early = curveKeyPair();
  const waiting = knock(early);
  expect(await knock()).toBe("handshake");
  gate.admit(early.publicKey);
  expect(await waiting).toBe("handshake");
});

test("no more peers may wait than the limit: those beyond are refused at once", async () => {
  const { gate, knock } = guarded({ limits: { maxWaiting: () => 1, patienceMs: 3_600_000 }, isListed: false });
  const answers = [knock(), knock(curveKeyPair())];
  // Whichever came first waits.
  const refused = await Promise.race(answers);
  expect(refused).toBe("handshake:error:auth");
  const listed = curveKeyPair();
  gate.admit(listed.publicKey);
  expect(await knock(listed)).toBe("handshake");
});

test("a revoked key is refused without a wait, and others are let in", async () => {
  const [{ keys, gate, knock }, other] = [guarded(), guarded()];
  gate.revoke(keys.publicKey);
  gate.revoke(keys.publicKey);
  expect([await knock(), await other.knock()]).toEqual(["handshake:error:auth", "handshake"]);
});

test("a key that is listed for one socket is unknown at another", async () => {
  const [a, b] = [guarded({ limits: impatient }), guarded()];
  expect([await a.knock(b.keys), await b.knock()]).toEqual(["handshake:error:auth", "handshake"]);
});

test("a gate that closes refuses those who wait", async () => {
  const { gate, knock } = guarded({ isListed: false });
  const other = guarded();
  const waiting = knock();
  expect(await other.knock()).toBe("handshake");
  gate.close();
  gate.close();
  expect(await waiting).toBe("handshake:error:auth");
});

test("peers that leave while they are asked about, or wait, disturb nobody", async () => {
  const { knock } = guarded();
  for (let i = 0; i < 100; i++) {
    void knock(curveKeyPair()).catch(() => {});
    if (i % 2 === 0) await setImmediate();
    opened.pop()?.close();
  }
  expect(await knock()).toBe("handshake");
});

test("after all gates were closed, at once or later, with connections ending meanwhile, new ones let their keys in", async () => {
  for (let i = 0; i < 200; i++) {
    expect(await guarded().knock()).toBe("handshake");
    for (const item of opened.splice(0)) item.close();
    if (i % 3 === 0) await setImmediate();
  }
});
