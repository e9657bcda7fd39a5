import process from "node:process";
import { text as readAll } from "node:stream/consumers";
import { Command, InvalidArgumentError } from "commander";
import { argumentError, InterruptedError } from "../errors.ts";
import type { Answers } from "../server/answer.ts";
import { openFor, type TextGenerator } from "../server/open-generator.ts";
import { type Question, requestOf } from "../server/question.ts";
import { roundName, wholeNumber } from "./arguments.ts";
import { converse } from "./conversation.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain } from "./output.ts";
import { type AnswerView, answerView, jsonAnswers } from "./reporters/answers.ts";

interface GenerateCommandOptions {
  readonly r: readonly number[];
  readonly round?: number | "best";
  readonly system?: string;
  readonly field: Readonly<Record<string, string>>;
  readonly raw: boolean;
  readonly maxNewTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly seed?: number;
  readonly interactive: boolean;
  readonly set: readonly string[];
  readonly json: boolean;
}

export function generateCommand(): Command {
  return new Command("generate")
    .description("ask the trained model, at several ranks side by side; needs none of the run's data")
    .argument("<run-dir>", "run directory with the adapter")
    .argument("[prompt]", "what to ask; - or a pipe: standard input")
    .option("--r <ranks>", "ranks to ask, such as 1,4,16; may be repeated; default: all tiers", ranks, [])
    .option("--round <n>", "ask the adapter after this round, or the best; default: the last committed", roundName)
    .option("--interactive", "ask line by line, in one conversation for each rank", false)
    .option("--system <text>", "chat tasks: a system message")
    .option("--field <name=value>", "a column of the task's template; may be repeated; the prompt fills the one that is left", field, {})
    .option("--raw", "tokenise the prompt as it is, without template", false)
    .option("--max-new-tokens <n>", "longest answer; default: 128", wholeNumber)
    .option("--temperature <t>", "0, the default, takes the likeliest token at each step", decimal)
    .option("--top-p <p>", "sample only from the likeliest tokens that have this probability together; default: 1", decimal)
    .option("--seed <n>", "of the sampling; the same seed gives the same answer; default: 0", wholeNumber)
    .option("--set <key=value>", "override a key of the config", (value: string, previous: string[]) => [...previous, value], [])
    .option("--json", "print one JSON object for each piece of text, and one for each rank's whole answer", false)
    .action(run);
}

async function run(directory: string, given: string | undefined, options: GenerateCommandOptions): Promise<void> {
  let stopAnswer = () => false;
  const interrupt = onInterrupt(complain, "nothing is written", () => stopAnswer());
  try {
    const { signal } = interrupt;
    const { interactive, system, json, round, set } = options;
    const question = questionOf(options);
    const prompt = interactive ? undefined : await promptOf(given, options, signal);
    if (interactive) requireNoPrompt(given, options);
    complain("loading the model …");
    const generator = await openFor({ run: directory, set, round, signal }, (model) => {
      // A conversation's questions are not known yet, but their options are.
      void requestOf({ ...question, prompt: prompt ?? (interactive ? "" : undefined), system }, model);
    });
    try {
      for (const remark of generator.remarks) complain(`note: ${remark}`);
      const speaker = { ...generator, ask: createSpeech(generator, json) };
      if (!interactive) await speaker.ask({ ...question, prompt, system, signal });
      else await converse({ speaker, question, system, signal, onStop: (stop) => void (stopAnswer = stop) });
    } finally {
      await generator.close();
    }
  } finally {
    interrupt.dispose();
  }
}

function questionOf(options: GenerateCommandOptions): Omit<Question, "prompt" | "messages" | "system" | "signal"> {
  const { r, field: fields, raw, maxNewTokens, temperature, topP, seed } = options;
  return { ranks: r.length > 0 ? r : undefined, fields, raw, maxNewTokens, temperature, topP, seed };
}

async function promptOf(given: string | undefined, { field: fields }: GenerateCommandOptions, signal: AbortSignal) {
  const hasFields = Object.keys(fields).length > 0;
  const isPiped = given === "-" || (given === undefined && !hasFields && !process.stdin.isTTY);
  if (!isPiped) {
    if (given === undefined && !hasFields) throw argumentError("prompt", "is needed: give it, pipe it in, or use --interactive");
    return given;
  }
  signal.addEventListener("abort", () => process.stdin.destroy(new InterruptedError()), { once: true });
  // The newline that ends a file is not part of a question.
  return (await readAll(process.stdin)).replace(/\r?\n$/, "");
}

function requireNoPrompt(given: string | undefined, { field: fields }: GenerateCommandOptions): void {
  if (given !== undefined) throw argumentError("prompt", "must be left out with --interactive, which reads it");
  if (Object.keys(fields).length > 0) throw argumentError("--field", "must be left out with --interactive: each line is a question");
}

/** Returns a function that asks, and shows the answer while it grows. */
function createSpeech(generator: TextGenerator, json: boolean): (question: Question) => Promise<Answers> {
  let told: string | undefined;
  return async (question) => {
    const answer = generator.ask(question);
    const view: AnswerView = json
      ? jsonAnswers(process.stdout)
      : answerView(process.stdout, question.ranks ?? generator.tiers, process.stderr);
    try {
      for await (const piece of answer) view.piece(piece);
      const answers = await answer.result;
      view.end(answers);
      const notes = [FORMS[answers.form], ...cutNotes(answers)].join("; ");
      if (!json && notes !== told) complain(`note: ${(told = notes)}`);
      return answers;
    } catch (error) {
      view.stop();
      throw error;
    }
  };
}

const FORMS = {
  chat: "asked in the model's chat template",
  template: "asked with the task's template",
  text: "the model continues the text, as it was trained to",
  raw: "the prompt was tokenised as it is",
} as const;

function cutNotes({ byRank }: Answers): readonly string[] {
  const cut = byRank.filter(({ finish }) => finish === "length").map(({ r }) => r);
  return cut.length === 0 ? [] : [`cut at rank ${cut.join(", ")} by --max-new-tokens, or by the model's last position`];
}

function ranks(text: string, previous: readonly number[]): readonly number[] {
  return [...new Set([...previous, ...text.split(",").map((each) => wholeNumber(each.trim()))])];
}

function field(text: string, previous: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("It must be NAME=VALUE.");
  return { ...previous, [text.slice(0, at)]: text.slice(at + 1) };
}

function decimal(text: string): number {
  if (!/^\d*\.?\d+$/.test(text)) throw new InvalidArgumentError("It must be a number.");
  return Number(text);
}
