import type { ConfigIssue } from "../errors.ts";
import { ConfigError } from "../errors.ts";
import { deriveSeed } from "../base/rng.ts";
import type { TaskRequest } from "../workers/task.ts";

/** A turn of a conversation. */
export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** What a trained model is asked, at which ranks, and how it answers. */
export interface Question {
  /** What a user types: it fills the template of the task's prompt (`data.prompt`, `data.text`), or is the user's turn of a chat. */
  readonly prompt?: string | undefined;
  /** Chat tasks: a system message before the prompt. */
  readonly system?: string | undefined;
  /** Chat tasks, in place of `prompt`: a conversation that ends with the user. A function gives each rank its own. */
  readonly messages?: readonly ChatMessage[] | ((r: number) => readonly ChatMessage[]) | undefined;
  /** Values of columns of the task's template, by name; the prompt fills the one that is left. */
  readonly fields?: Readonly<Record<string, string>> | undefined;
  /** Tokenise the prompt as it is, without template. */
  readonly raw?: boolean | undefined;
  /** Any from 1 to the adapter's rank, in the order of the answers; the tiers by default. */
  readonly ranks?: readonly number[] | undefined;
  /** 128 by default. An answer also ends at the model's last position. */
  readonly maxNewTokens?: number | undefined;
  /** 0, the default, takes the likeliest token at each step. */
  readonly temperature?: number | undefined;
  /** Sample only from the likeliest tokens that have this probability together; 1, all of them, by default. */
  readonly topP?: number | undefined;
  /** A whole number, 0 by default. The same seed gives the same answer at a rank, whichever others are asked. */
  readonly seed?: number | undefined;
  /** Stops the answer. */
  readonly signal?: AbortSignal | undefined;
}

/** Asked by whom: the ranks it may be asked at. */
interface Asked {
  readonly r: number;
  readonly tiers: readonly number[];
}

/** The part of a request that the question decides. Throws a ConfigError with every wrong option. */
export function requestOf(
  question: Question,
  model: Asked,
): Pick<TaskRequest<"generate">, "asked" | "seed" | "fields" | "raw" | "max_new_tokens" | "temperature" | "top_p"> {
  const { prompt, fields = {}, raw = false, ranks = model.tiers } = question;
  const { maxNewTokens = 128, temperature = 0, topP = 1, seed = 0, system, messages } = question;
  const isWhole = (value: number, least: number) => Number.isSafeInteger(value) && value >= least;
  const rules: readonly (readonly [boolean, string, string])[] = [
    [
      ranks.length > 0 && ranks.every((r) => isWhole(r, 1) && r <= model.r),
      "r",
      `must be whole numbers from 1 to ${model.r}, the adapter's rank, got ${ranks.join(", ") || "none"}`,
    ],
    [new Set(ranks).size === ranks.length, "r", `must name each rank once, got ${ranks.join(", ")}`],
    [isWhole(maxNewTokens, 1), "maxNewTokens", `must be a whole number from 1, got ${maxNewTokens}`],
    [Number.isFinite(temperature) && temperature >= 0, "temperature", `must be a number from 0, got ${temperature}`],
    [topP > 0 && topP <= 1, "topP", `must be above 0 and at most 1, got ${topP}`],
    [isWhole(seed, 0), "seed", `must be a whole number from 0, got ${seed}`],
    [prompt === undefined || messages === undefined, "messages", "must be left out if there is a prompt"],
    [messages === undefined || system === undefined, "system", "must be the first of messages, if there are any"],
    [prompt !== undefined || messages !== undefined || Object.keys(fields).length > 0, "prompt", "is needed: there is nothing to ask"],
  ];
  const issues = rules.flatMap(([holds, path, message]): ConfigIssue[] => (holds ? [] : [{ path, message, isArgument: true }]));
  if (issues.length > 0) throw new ConfigError(issues);
  const own = typeof messages === "function" ? messages : () => messages ?? turnsOf(question);
  return {
    asked: ranks.map((r) => ({ r, messages: own(r).map(({ role, content }) => ({ role, content })) })),
    seed: deriveSeed(seed, "generate"),
    fields: { ...fields },
    raw,
    max_new_tokens: maxNewTokens,
    temperature,
    top_p: topP,
  };
}

function turnsOf({ prompt, system }: Question): readonly ChatMessage[] {
  return [
    ...(system === undefined ? [] : [{ role: "system", content: system } as const]),
    ...(prompt === undefined ? [] : [{ role: "user", content: prompt } as const]),
  ];
}
