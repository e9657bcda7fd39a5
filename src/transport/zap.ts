import { Context, Dealer, Router, type SocketOptions } from "zeromq";

/** A place for one key on the list of those that may connect. */
export interface Admission {
  /** For the socket that the key opens. */
  readonly options: SocketOptions<Router>;
  /** Strikes the key off the list. Safe to call twice. */
  revoke(): void;
}

/** Where ZeroMQ asks before it lets a peer in: ZAP, https://rfc.zeromq.org/spec/27. There is one in a context. */
const ADDRESS = "inproc://zeromq.zap.01";

/** Ours alone: a program that uses prelort may answer ZAP itself, and all its threads share the default context. */
const context = new Context();
/** The key that is let in, by the ZAP domain of the socket. */
const admitted = new Map<string, Buffer>();
let domains = 0;
/** Made once and never closed: libzmq 4.3.5 aborts when that happens while a connection it was asked about is ending. */
let sockets: { readonly handler: Router; readonly waker: Dealer } | undefined;
let isAnswering = false;

/**
 * Lets whoever has the secret half of this key (Z85) connect to a socket made with the options, and nobody else:
 * CURVE by itself lets in every pair of keys. Nothing keeps the process alive once all keys are struck off.
 */
export function admit(publicKey: string): Admission {
  const zapDomain = `prelort-${++domains}`;
  admitted.set(zapDomain, decodeZ85(publicKey));
  sockets ??= createSockets();
  const { handler, waker } = sockets;
  if (!isAnswering) void answerAll(handler);
  return {
    // Without `zapEnforceDomain` everybody is let in where nobody is asked.
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

/** Until there is nobody to let in; a message of the waker's, which is no question, ends the wait for the next one. */
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

/** 4 bytes for 5 characters, the most significant first: https://rfc.zeromq.org/spec/32. */
function decodeZ85(text: string): Buffer {
  const groups = text.match(/.{5}/g) ?? [];
  const bytes = Buffer.alloc(4 * groups.length);
  for (const [index, group] of groups.entries()) {
    const value = Array.from(group).reduce((value, digit) => 85 * value + DIGITS.indexOf(digit), 0);
    bytes.writeUInt32BE(value, 4 * index);
  }
  return bytes;
}
