import { Context, Dealer, Router, type SocketOptions } from "zeromq";

/** The permission to connect with one key. */
export interface Admission {
  /** Options of the socket that the key opens. */
  readonly options: SocketOptions<Router>;
  /** Revokes the key. Safe to call twice. */
  revoke(): void;
}

/** Where ZeroMQ asks before it admits a peer: ZAP, https://rfc.zeromq.org/spec/27. A context has only one. */
const ADDRESS = "inproc://zeromq.zap.01";

/** Our own: a program that uses prelort may answer ZAP itself, and all its threads share the default context. */
const context = new Context();
/** The admitted key by the socket's ZAP domain. */
const admitted = new Map<string, Buffer>();
let domains = 0;
/** Created once and never closed: libzmq 4.3.5 aborts if they are closed while a connection that is being checked ends. */
let sockets: { readonly handler: Router; readonly waker: Dealer } | undefined;
let isAnswering = false;

/**
 * Admits only peers with the secret half of this key (Z85) to a socket created with the options: CURVE by itself admits any
 * key pair. Nothing keeps the process alive once all keys are revoked.
 */
export function admit(publicKey: string): Admission {
  const zapDomain = `prelort-${++domains}`;
  admitted.set(zapDomain, decodeZ85(publicKey));
  sockets ??= createSockets();
  const { handler, waker } = sockets;
  if (!isAnswering) void answerAll(handler);
  return {
    // Without `zapEnforceDomain` every peer is admitted if nobody answers ZAP.
    options: { context, zapDomain, zapEnforceDomain: true },
    revoke() {
      if (admitted.delete(zapDomain) && admitted.size === 0) void waker.send("");
    },
  };
}

function createSockets(): { readonly handler: Router; readonly waker: Dealer } {
  const handler = new Router({ context, linger: 0 });
  handler.bindSync(ADDRESS);
  const waker = new Dealer({ context, linger: 0 });
  waker.connect(ADDRESS);
  return { handler, waker };
}

/** Answers until no key is admitted; a message from `waker`, which is not a request, ends the wait for the next request. */
async function answerAll(handler: Router): Promise<void> {
  isAnswering = true;
  while (admitted.size > 0) {
    const [peer, empty, version, id, domain, , , mechanism, key] = await handler.receive();
    if (!peer || !empty || !version || !id || !domain || !mechanism) continue;
    const isAdmitted = key !== undefined && mechanism.toString() === "CURVE" && admitted.get(domain.toString())?.equals(key);
    await handler.send([peer, empty, version, id, isAdmitted ? "200" : "400", "", "", ""]);
  }
  isAnswering = false;
}

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/** Decodes 5 characters to 4 bytes, most significant first: https://rfc.zeromq.org/spec/32. */
function decodeZ85(text: string): Buffer {
  const groups = text.match(/.{5}/g) ?? [];
  const bytes = Buffer.alloc(4 * groups.length);
  for (const [index, group] of groups.entries()) {
    const value = Array.from(group).reduce((value, digit) => 85 * value + DIGITS.indexOf(digit), 0);
    bytes.writeUInt32BE(value, 4 * index);
  }
  return bytes;
}
