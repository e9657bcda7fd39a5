import { type Adapter, prefix } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { InterruptedError, RefusedError } from "../errors.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import { named, type Reply, type TaskRequest, type WorkerPool } from "../workers/task.ts";
import { createEventStream } from "./event-stream.ts";
import { type Question, requestOf } from "./question.ts";

/** The next piece of a growing answer. */
export interface AnswerPiece {
  readonly r: number;
  readonly text: string;
}

/** A rank's whole answer. */
export interface RankAnswer {
  readonly r: number;
  /** Without white space at its ends. A classifier's is its likeliest label, those above one half, or its number. */
  readonly text: string;
  /** Generated, with the end-of-text. */
  readonly tokens: number;
  /** `stop`: the model ended it; `length`: it reached `maxNewTokens` or the model's last position. */
  readonly finish: "stop" | "length";
  readonly seconds: number;
  /** A classifier's likeliest labels, up to three, the likeliest first; null if the task writes text. */
  readonly labels: readonly { readonly label: string; readonly probability: number }[] | null;
}

export interface Answers {
  /**
   * What the prompt became: a turn in the model's chat template, the filled template of the task, the beginning of a text that the
   * model continues, or its tokens as they are.
   */
  readonly form: "chat" | "template" | "text" | "raw";
  /** In the order in which the ranks were asked. */
  readonly byRank: readonly RankAnswer[];
}

/**
 * An answer that is under way: iterate over its pieces, one rank after the other, or await all of it, or both. Joined, a rank's pieces
 * are its text, unless the tokenizer takes something back: then only the text is right. Classifiers have no pieces.
 */
export interface Answer extends AsyncIterable<AnswerPiece> {
  readonly result: Promise<Answers>;
}

/** A model that can be asked. */
export interface AskedModel {
  readonly pool: WorkerPool;
  readonly layout: AdapterLayout;
  readonly adapter: Adapter;
  readonly data: TaskRequest<"generate">["data"];
}

/** An answer of more characters is no answer. */
const LONGEST = 4_000_000;

/** Returns a function that asks the model. It throws a ConfigError if the question is wrong. */
export function createAsk({ pool, layout, adapter, data }: AskedModel): (question: Question) => Answer {
  let count = 0;
  // The same object for questions at the same ranks: its checksums are computed once.
  const prefixes = new Map<number, Adapter>();
  const prefixOf = (r: number) => {
    const known = prefixes.get(r) ?? prefix(adapter, layout, r);
    prefixes.set(r, known);
    return known;
  };
  return (question) => {
    const asked = requestOf(question, layout);
    const ranks = asked.asked.map(({ r }) => r);
    const { push, end, pieces } = createPieces(ranks);
    const ask = async (): Promise<Answers> => {
      const { signal } = question;
      try {
        const { message } = await pool.run<"generate">({
          ...named({ kind: "generate", part: ++count }),
          request: { type: "generate", ...asked, scale: layout.scale, data },
          payload: prefixOf(Math.max(...ranks)),
          accept: (reply) => checkRanks(reply, ranks),
          hear: push,
          ...(signal && { signal }),
        });
        return { form: message.form, byRank: message.answers };
      } catch (cause) {
        throw signal?.aborted && cause === signal.reason ? new InterruptedError("the answer was stopped") : cause;
      } finally {
        end();
      }
    };
    return answerOf(ask(), pieces);
  };
}

/** Whoever only iterates over the pieces gets the error there. */
export function answerOf(result: Promise<Answers>, pieces: AsyncIterable<AnswerPiece>): Answer {
  result.catch(() => {});
  async function* iterate(): AsyncGenerator<AnswerPiece> {
    yield* pieces;
    await result;
  }
  return { result, [Symbol.asyncIterator]: iterate };
}

/** Pieces for any number of readers, each of which gets all of them. */
export function createPieceStream() {
  const events = createEventStream<{ readonly number: number; readonly piece: AnswerPiece }>();
  let number = 0;
  return {
    push: (piece: AnswerPiece) => events.push({ number: ++number, piece }),
    end: () => events.end(),
    async *[Symbol.asyncIterator](): AsyncGenerator<AnswerPiece> {
      for await (const { piece } of events.read()) yield piece;
    },
  };
}

/** Pieces as they arrive. An attempt that begins anew is heard in silence up to where the one before it broke off. */
function createPieces(ranks: readonly number[]) {
  const stream = createPieceStream();
  const heard = new Map<number, { readonly attempt: number; readonly text: string }>();
  const told = new Map<number, number>();
  return {
    pieces: stream,
    end: stream.end,
    push({ attempt, r, text }: WorkerMessageOf<"text">) {
      const before = heard.get(r);
      const whole = (before?.attempt === attempt ? before.text : "") + text;
      if (!ranks.includes(r) || whole.length > LONGEST) {
        throw new RefusedError("an answer", `at most ${LONGEST} characters at rank ${ranks.join(", ")}`, `${whole.length} at rank ${r}`);
      }
      heard.set(r, { attempt, text: whole });
      const known = told.get(r) ?? 0;
      if (whole.length <= known) return;
      told.set(r, whole.length);
      stream.push({ r, text: whole.slice(known) });
    },
  };
}

function checkRanks({ message }: Reply<"generate">, ranks: readonly number[]): void {
  const received = message.answers.map(({ r }) => r).join(", ");
  if (received !== ranks.join(", ")) throw new RefusedError("an answer", `ranks ${ranks.join(", ")}`, received);
}
