import { setImmediate } from "node:timers/promises";
import { curveKeyPair, Router } from "zeromq";
import { afterEach, expect, test } from "vitest";
import { admit } from "../../../src/transport/zap.ts";
import { connectDealer } from "../../support/dealer.ts";

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const item of opened.splice(0)) item.close();
});

/** A socket that admits one key, and a function that tries to connect. */
function guarded(keys = curveKeyPair()) {
  const server = curveKeyPair();
  const { options, revoke } = admit(keys.publicKey);
  const router = new Router({ linger: 0, curveServer: true, curveSecretKey: server.secretKey, ...options });
  opened.push({ close: revoke }, router);
  router.bindSync("tcp://127.0.0.1:*");
  const tryKey = (own = keys) => {
    const { dealer, until } = connectDealer({ endpoint: router.lastEndpoint ?? "", curve: { serverKey: server.publicKey, ...own } }, "w0");
    opened.push(dealer);
    return until("handshake");
  };
  return { keys, tryKey, revoke };
}

test("ZAP admits the given key and no other", async () => {
  const { tryKey } = guarded();
  expect([await tryKey(), await tryKey(curveKeyPair()), await tryKey()]).toEqual(["handshake", "handshake:error:auth", "handshake"]);
});

test("ZAP compares every byte of a key", async () => {
  for (let i = 0; i < 20; i++) expect(await guarded().tryKey()).toBe("handshake");
});

test("ZAP refuses a revoked key and still admits others", async () => {
  const [{ tryKey, revoke }, other] = [guarded(), guarded()];
  revoke();
  revoke();
  expect([await tryKey(), await other.tryKey()]).toEqual(["handshake:error:auth", "handshake"]);
});

test("ZAP refuses a key that belongs to another socket", async () => {
  const [first, second] = [guarded(), guarded()];
  expect([await first.tryKey(second.keys), await second.tryKey()]).toEqual(["handshake:error:auth", "handshake"]);
});

test("ZAP continues when peers leave while they are being checked", async () => {
  const { tryKey } = guarded();
  for (let i = 0; i < 100; i++) {
    void tryKey(curveKeyPair()).catch(() => {});
    if (i % 2 === 0) await setImmediate();
    opened.pop()?.close();
  }
  expect(await tryKey()).toBe("handshake");
});

test("ZAP admits a new key after all others were revoked, at once or later, even while connections end", async () => {
  for (let i = 0; i < 200; i++) {
    expect(await guarded().tryKey()).toBe("handshake");
    for (const item of opened.splice(0)) item.close();
    if (i % 3 === 0) await setImmediate();
  }
});
