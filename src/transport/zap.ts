import { Context, Dealer, Router, type SocketOptions } from "zeromq";
import { decodeZ85 } from "./keys.ts";

/** The list of keys that may connect to a socket. */
export interface Gate {
  /** For the socket that the gate guards. */
  readonly options: SocketOptions<Router>;
  /** Lets the holder of the secret half of this key (Z85) in once, also one that already waits. */
  admit(publicKey: string): void;
  /** Strikes the key off the list, for good. */
  revoke(publicKey: string): void;
  /** Lets nobody in any more. Safe to call twice. */
  close(): void;
}

export interface GateLimits {
  /** How many peers with unknown keys may wait for an answer; those beyond are refused. */
  readonly maxWaiting: () => number;
  /** How long each may wait before it is refused. */
  readonly patienceMs: number;
}

/** Where ZeroMQ asks before it lets a peer in: ZAP, https://rfc.zeromq.org/spec/27. There is one in a context. */
const ADDRESS = "inproc://zeromq.zap.01";

/** A question of ZeroMQ's, to be answered once. */
interface Question {
  readonly key: string;
  answer(isAdmitted: boolean): void;
}

/** Ours alone: a program that uses prelort may answer ZAP itself, and all its threads share the default context. */
const context = new Context();
/** Who is asked, by the ZAP domain of the socket. */
const gates = new Map<string, (question: Question) => void>();
let domains = 0;
/** Made once and never closed: libzmq 4.3.5 aborts when that happens while a connection it was asked about is ending. */
let sockets: { readonly handler: Router; readonly waker: Dealer } | undefined;
let isAnswering = false;
let isWaking = false;
/** A ZeroMQ socket takes one send at a time. */
let lastAnswer: Promise<unknown> = Promise.resolve();

/**
 * CURVE by itself lets in every pair of keys. A gate holds its answer about a key that is not known yet, since a worker may
 * connect before its launcher has learnt its key: libzmq never tries again after a refusal. Once all gates are closed,
 * nothing here keeps the process alive.
 */
export function createGate({ maxWaiting, patienceMs }: GateLimits): Gate {
  const zapDomain = `prelort-${++domains}`;
  const admitted = new Set<string>();
  const revoked = new Set<string>();
  const waiting = new Map<Question, NodeJS.Timeout>();

  function settle(question: Question): void {
    clearTimeout(waiting.get(question));
    waiting.delete(question);
    const isAdmitted = admitted.delete(question.key);
    if (isAdmitted) revoked.add(question.key);
    question.answer(isAdmitted);
  }

  gates.set(zapDomain, (question) => {
    const isKnown = admitted.has(question.key) || revoked.has(question.key);
    if (isKnown || waiting.size >= maxWaiting()) settle(question);
    else waiting.set(question, setTimeout(() => settle(question), patienceMs).unref());
  });
  sockets ??= createSockets();
  const { handler, waker } = sockets;
  if (!isAnswering) void answerAll(handler);
  return {
    // Without `zapEnforceDomain` everybody is let in where nobody is asked.
    options: { context, zapDomain, zapEnforceDomain: true },
    admit(publicKey) {
      const key = toHex(publicKey);
      admitted.add(key);
      for (const question of waiting.keys()) if (question.key === key) settle(question);
    },
    revoke(publicKey) {
      const key = toHex(publicKey);
      admitted.delete(key);
      revoked.add(key);
    },
    close() {
      if (!gates.delete(zapDomain)) return;
      admitted.clear();
      for (const question of waiting.keys()) settle(question);
      if (gates.size === 0) wake(waker);
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

/** One message is enough, however many gates close before it is read. */
function wake(waker: Dealer): void {
  if (isWaking) return;
  isWaking = true;
  void waker.send("");
}

/** Until there is no gate; the waker's message, which is no question, ends the wait for the next one. */
async function answerAll(handler: Router): Promise<void> {
  isAnswering = true;
  while (gates.size > 0) {
    const [peer, empty, version, id, domain, , , mechanism, key] = await handler.receive();
    if (!peer || !empty || !version || !id || !domain || !mechanism) {
      isWaking = false;
      continue;
    }
    const answer = (isAdmitted: boolean) => {
      lastAnswer = lastAnswer.then(() => handler.send([peer, empty, version, id, isAdmitted ? "200" : "400", "", "", ""])).catch(() => {});
    };
    const ask = gates.get(domain.toString());
    if (!ask || key === undefined || mechanism.toString() !== "CURVE") answer(false);
    else ask({ key: key.toString("hex"), answer });
  }
  isAnswering = false;
}

function toHex(publicKey: string): string {
  return decodeZ85(publicKey).toString("hex");
}
