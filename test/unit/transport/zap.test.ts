import { setImmediate } from "node:timers/promises";
import { curveKeyPair, Router } from "zeromq";
import { afterEach, expect, test } from "vitest";
import { admit } from "../../../src/transport/zap.ts";
import { connectDealer } from "../../support/dealer.ts";

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const item of opened.splice(0)) item.close();
});

/** A socket that lets one key in, and a try to get in. */
function guarded(keys = curveKeyPair()) {
  const server = curveKeyPair();
  const { options, revoke } = admit(keys.publicKey);
  const router = new Router({ linger: 0, curveServer: true, curveSecretKey: server.secretKey, ...options });
  opened.push({ close: revoke }, router);
  router.bindSync("tcp://127.0.0.1:*");
  const knock = (own = keys) => {
    const { dealer, until } = connectDealer({ endpoint: router.lastEndpoint ?? "", curve: { serverKey: server.publicKey, ...own } }, "w0");
    opened.push(dealer);
    return until("handshake");
  };
  return { keys, knock, revoke };
}

test("lets the key in that it was told, and no other", async () => {
  const { knock } = guarded();
  expect([await knock(), await knock(curveKeyPair()), await knock()]).toEqual(["handshake", "handshake:error:auth", "handshake"]);
});

test("knows every byte of a key", async () => {
  for (let i = 0; i < 20; i++) expect(await guarded().knock()).toBe("handshake");
});

test("refuses a key once it was revoked, and goes on with others", async () => {
  const [{ knock, revoke }, other] = [guarded(), guarded()];
  revoke();
  revoke();
  expect([await knock(), await other.knock()]).toEqual(["handshake:error:auth", "handshake"]);
});

test("refuses a key that is for another socket", async () => {
  const [first, second] = [guarded(), guarded()];
  expect([await first.knock(second.keys), await second.knock()]).toEqual(["handshake:error:auth", "handshake"]);
});

test("goes on when peers leave while it is asked about them", async () => {
  const { knock } = guarded();
  for (let i = 0; i < 100; i++) {
    void knock(curveKeyPair()).catch(() => {});
    if (i % 2 === 0) await setImmediate();
    opened.pop()?.close();
  }
  expect(await knock()).toBe("handshake");
});

test("is there again for a key that comes after all others were revoked, at once or later, with connections ending meanwhile", async () => {
  for (let i = 0; i < 200; i++) {
    expect(await guarded().knock()).toBe("handshake");
    for (const item of opened.splice(0)) item.close();
    if (i % 3 === 0) await setImmediate();
  }
});
