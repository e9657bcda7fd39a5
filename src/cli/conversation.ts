import process from "node:process";
import { createInterface } from "node:readline/promises";
import { ConfigError, InterruptedError } from "../errors.ts";
import type { Answers } from "../server/answer.ts";
import type { ChatMessage, Question } from "../server/question.ts";
import { complain, print } from "./output.ts";

/** The model as a conversation needs it. */
export interface Speaker {
  readonly r: number;
  readonly tiers: readonly number[];
  /** Whether earlier turns are part of a question. */
  readonly isChat: boolean;
  /** Asks, and shows the answer. */
  ask(question: Question): Promise<Answers>;
}

export interface ConversationOptions {
  readonly speaker: Speaker;
  /** Options of every question. */
  readonly question: Omit<Question, "prompt" | "messages" | "system" | "signal">;
  readonly system: string | undefined;
  /** Ends the conversation. */
  readonly signal: AbortSignal;
  /** Gets what a Ctrl-C calls first: it stops an answer, and returns whether there was one. */
  onStop(stop: () => boolean): void;
}

const help = (
  isChat: boolean,
) => `Type a question. ${isChat ? "Each rank has a conversation of its own." : "Each is asked by itself: this task has no conversations."}
  /r 1,4    ask these ranks from now on
  /reset    begin all conversations anew
  //text    ask "/text"
  Ctrl-C stops an answer, or ends; Ctrl-D ends.`;

/** Asks what the user types, line by line, until the input ends. Rejects with an InterruptedError if `signal` ends it. */
export async function converse({ speaker, question, system, signal, onStop }: ConversationOptions): Promise<void> {
  const { stdin: input, stdout: output } = process;
  const isTerminal = input.isTTY && output.isTTY;
  const lines = createInterface({ input, terminal: isTerminal, ...(isTerminal && { output }), prompt: "> " });
  const close = () => lines.close();
  signal.addEventListener("abort", close, { once: true });
  // In a terminal, Ctrl-C is a key that is read like others.
  lines.on("SIGINT", () => process.emit("SIGINT", "SIGINT"));
  const talk = createTalk({ speaker, question, system, onStop, signal });
  try {
    if (isTerminal) {
      print(help(speaker.isChat && question.raw !== true));
      lines.prompt();
    }
    for await (const line of lines) {
      if (line.trim() !== "") await talk(line.trim());
      if (signal.aborted) break;
      if (isTerminal) lines.prompt();
    }
  } finally {
    signal.removeEventListener("abort", close);
    lines.close();
  }
  if (signal.aborted) throw new InterruptedError("the conversation was interrupted");
  if (isTerminal) print("");
}

/** Returns a function that answers one line. */
function createTalk({ speaker, question, system, onStop, signal }: ConversationOptions): (line: string) => Promise<void> {
  let ranks = question.ranks ?? speaker.tiers;
  let history = new Map<number, readonly ChatMessage[]>();
  const isChat = speaker.isChat && question.raw !== true;
  const first: readonly ChatMessage[] = system === undefined ? [] : [{ role: "system", content: system }];
  const turnsAt = (r: number) => history.get(r) ?? first;

  const ask = async (content: string): Promise<void> => {
    const turn = { role: "user", content } as const;
    const stopping = new AbortController();
    onStop(() => {
      const isFirst = !stopping.signal.aborted;
      stopping.abort();
      return isFirst;
    });
    try {
      const messages = (r: number) => (isChat ? [...turnsAt(r), turn] : [...first, turn]);
      const { byRank } = await speaker.ask({ ...question, ranks, messages, signal: AbortSignal.any([stopping.signal, signal]) });
      for (const { r, text } of byRank) history.set(r, [...turnsAt(r), turn, { role: "assistant", content: text }]);
    } catch (error) {
      if (signal.aborted) return;
      // The conversation goes on without that question.
      if (error instanceof InterruptedError && stopping.signal.aborted) complain("stopped; this question is left out of the conversation");
      else if (error instanceof ConfigError) complain(error.message);
      else throw error;
    } finally {
      onStop(() => false);
    }
  };

  return async (line) => {
    const [command = "", ...rest] = line.split(/\s+/);
    if (line.startsWith("//")) await ask(line.slice(1));
    else if (!line.startsWith("/")) await ask(line);
    else if (command === "/reset") history = new Map();
    else if (command === "/r") ranks = ranksOf(rest.join(""), speaker.r) ?? ranks;
    else complain(help(isChat));
  };
}

function ranksOf(text: string, most: number): readonly number[] | undefined {
  const ranks = text.split(",").map(Number);
  if (ranks.every((r) => Number.isInteger(r) && r >= 1 && r <= most)) return [...new Set(ranks)];
  complain(`/r takes ranks from 1 to ${most}, such as /r 1,${most}`);
  return undefined;
}
