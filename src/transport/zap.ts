import { Context, Dealer, Router, type SocketOptions } from "zeromq";
import { decodeZ85 } from "./keys.ts";

/** Decides which keys may connect to a socket. */
export interface Gate {
  /** Options of the socket. */
  readonly options: SocketOptions<Router>;
  /** Admits one connection with this key (Z85), even one that is waiting already. */
  admit(publicKey: string): void;
  /** Refuses the key from now on. */
  revoke(publicKey: string): void;
  /** Refuses everyone, including those who wait. Safe to call twice. */
  close(): void;
}

export interface GateLimits {
  /** How many peers with unknown keys may wait for an answer; those beyond are refused. */
  readonly maxWaiting: () => number;
  /** How long each may wait before it is refused. */
  readonly patienceMs: number;
}

/** Where ZeroMQ asks before it admits a peer: ZAP, https://rfc.zeromq.org/spec/27. A context has only one. */
const ADDRESS = "inproc://zeromq.zap.01";

/** A request of ZeroMQ's, to be answered once. */
interface Question {
  readonly key: string;
  answer(isAdmitted: boolean): void;
}

/** Our own: a program that uses prelort may answer ZAP itself, and all its threads share the default context. */
const context = new Context();
/** By the socket's ZAP domain. */
const gates = new Map<string, (question: Question) => void>();
let domains = 0;
/** Created once and never closed: libzmq 4.3.5 aborts if they are closed while a connection that is being checked ends. */
let sockets: { readonly handler: Router; readonly waker: Dealer } | undefined;
let isAnswering = false;
let isWaking = false;
/** A ZeroMQ socket takes one send at a time. */
let lastAnswer: Promise<unknown> = Promise.resolve();

/**
 * CURVE by itself admits any key pair. A gate delays its answer about an unknown key, since a worker may connect before its
 * launcher has learnt its key, and libzmq never tries again after a refusal. Nothing keeps the process alive once all gates
 * are closed.
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
    // Without `zapEnforceDomain` every peer is admitted if nobody answers ZAP.
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

/** Answers until there is no gate; a message from `waker`, which is not a request, ends the wait for the next request. */
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
