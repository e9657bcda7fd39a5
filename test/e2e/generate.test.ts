import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createPool,
  federate,
  generate,
  InterruptedError,
  openGenerator,
  type Question,
  type RankAnswer,
  type TextGenerator,
} from "../../src/index.ts";
import { cli, temporaryFolder, tiny, tinyRun, workersOf } from "../support/e2e.ts";
import { eventually } from "../support/patience.ts";

/* Real runs of tiny models, asked through the command line and from TypeScript. Their data is gone: a question needs none of it. */

const folder = temporaryFolder();
const [words, topics, chat] = ["words", "topics", "chat"].map((name) => () => path.join(folder(), name)) as [
  () => string,
  () => string,
  () => string,
];

const TEMPLATE =
  "{% for m in messages %}{{ m.role }} : {{ m.content }} </s> {% endfor %}{% if add_generation_prompt %}assistant :{% endif %}";

beforeAll(async () => {
  const data = path.join(folder(), "words.jsonl");
  const chatModel = path.join(folder(), "chat-llama");
  copyFileSync(tiny("words.jsonl"), data);
  cpSync(tiny("tiny-llama"), chatModel, { recursive: true });
  writeFileSync(path.join(chatModel, "chat_template.jinja"), TEMPLATE);
  const fit = { localSteps: 40, batchSize: 8, lr: 0.03 };
  const { workers: _, ...tinyOptions } = tinyRun(folder(), "words");
  await using pool = await createPool({ workers: { count: 1, devices: ["cpu"] } });
  const base = { ...tinyOptions, pool, rounds: 1, fit, lora: { r: 8, target_modules: "all-linear" } } as const;
  await federate({ ...base, data: { ...base.data, path: data } }).result;
  const conversations = { ...base.data, path: data, prompt: "{word}", chat: true, maxLength: 64 };
  await federate({ ...base, name: "chat", model: { nameOrPath: chatModel, task: "causal-lm" }, data: conversations }).result;
  const texts = { path: tiny("topics.jsonl"), text: "{text}", label: "topic", maxLength: 32, evalExamples: 24, clients: 4 };
  const classifier = { nameOrPath: tiny("tiny-bert"), task: "sequence-classification" } as const;
  await federate({ ...base, name: "topics", model: classifier, data: texts }).result;
  rmSync(data);
});

type Line = { readonly r: number; readonly text: string } & Partial<RankAnswer> & { readonly form?: string };

function prelort(args: readonly string[], input?: string): { readonly code: number | null; readonly out: string; readonly err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, "generate", ...args], { encoding: "utf8", input, cwd: folder() });
  return { code: status, out: stdout, err: stderr };
}

function linesOf(out: string): readonly Line[] {
  return out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

const isPiece = ({ finish }: Line) => finish === undefined;
const joined = (lines: readonly Line[], r: number) =>
  lines
    .filter((line) => line.r === r && isPiece(line))
    .map(({ text }) => text)
    .join("");

describe("the model of a run", () => {
  let generator: TextGenerator;
  beforeAll(async () => {
    generator = await openGenerator({ run: words() });
  });
  afterAll(() => generator.close());

  test("answers at each rank in pieces that join to the whole answer, the same from the command line", async () => {
    const { code, out, err } = prelort([words(), "--r", "8,3", "--r", "1", "--json", "w07"]);
    expect(code, err).toBe(0);
    const lines = linesOf(out);
    const finals = lines.filter((line) => !isPiece(line));
    expect(finals.map(({ r, form }) => [r, form])).toEqual([8, 3, 1].map((r) => [r, "template"]));
    for (const { r, text, tokens = 0 } of finals) {
      expect(joined(lines, r)).toBe(text);
      expect(tokens).toBeGreaterThan(0);
    }
    expect(lines.filter(isPiece).length, "more than one piece for each rank").toBeGreaterThan(3);
    expect(finals[0]?.text, "trained to say a gloss").toContain("a kind of");
    const { byRank } = await generator.ask({ prompt: "w07", ranks: [1, 8, 3] }).result;
    const text = (all: readonly Pick<Line, "r" | "text">[]) => Object.fromEntries(all.map(({ r, text }) => [r, text]));
    expect(text(byRank)).toEqual(text(finals));
  });

  test("samples the same answer from the same seed, whatever the order of the ranks", async () => {
    const asked = { prompt: "w07", temperature: 2, seed: 5 } as const;
    const texts = async (question: object) => {
      const { byRank } = await generator.ask({ ...asked, ...question }).result;
      return new Map(byRank.map(({ r, text }) => [r, text]));
    };
    const first = await texts({ ranks: [1, 4, 8] });
    expect([...(await texts({ ranks: [8, 1] }))]).toEqual([8, 1].map((r) => [r, first.get(r)]));
    expect(await texts({ ranks: [1, 4, 8], seed: 6 })).not.toEqual(first);
  });

  test("stops an answer within a token, and answers the next question", async () => {
    const stopping = new AbortController();
    const answer = generator.ask({ prompt: "w07", signal: stopping.signal });
    let heard = 0;
    const listening = (async () => {
      for await (const _ of answer) {
        heard++;
        stopping.abort();
      }
    })();
    await expect(listening).rejects.toThrow(InterruptedError);
    await expect(answer.result).rejects.toThrow(InterruptedError);
    expect(heard).toBeGreaterThan(0);
    expect((await generator.ask({ prompt: "w08", ranks: [2] }).result).byRank).toHaveLength(1);
  });

  test("is asked once, with its adapter after an earlier round", async () => {
    const { form, byRank } = await generate({ run: words(), round: 0, prompt: "Define w07", raw: true, ranks: [8], maxNewTokens: 3 })
      .result;
    expect([form, byRank.map(({ r, tokens, finish }) => [r, tokens, finish])]).toEqual(["raw", [[8, 3, "length"]]]);
  });

  test("refuses what its task cannot take; the command line does so with exit code 2, before a worker starts if it can", async () => {
    const ask = async (question: Question) => generator.ask({ prompt: "b", ...question }).result;
    const refusal = (fact: string) => ({ kind: "config", message: expect.stringContaining(fact) as string });
    await expect(ask({ fields: { wrod: "a" } })).rejects.toMatchObject(refusal("'wrod'"));
    await expect(ask({ system: "s" })).rejects.toMatchObject(refusal("chat tasks"));
    expect(prelort([words(), "--r", "9", "b"])).toMatchObject({ code: 2, err: expect.stringContaining("from 1 to 8") as string });
    expect(prelort([path.join(folder(), "none"), "b"]).code).toBe(2);
  });
});

test("a classifier answers a text from standard input with its likeliest labels at each rank", () => {
  const { code, out, err } = prelort([topics(), "--r", "1,8", "-"], "a kind of fur paw tail nest\n");
  expect(code, err).toBe(0);
  expect(out).toMatch(/^rank 1\n(\w+ {2}[\d.]+ %\n){3}\nrank 8\n(\w+ {2}[\d.]+ %\n){3}$/);
  const shares = [...out.matchAll(/[\d.]+(?= %)/g)].map(([share]) => Number(share));
  for (const three of [shares.slice(0, 3), shares.slice(3)]) {
    expect(three).toEqual(three.toSorted((a, b) => b - a));
    expect(three.reduce((sum, share) => sum + share, 0)).toBeLessThan(100.2);
  }
  expect(err).toContain("asked with the task's template");
});

describe("a conversation", () => {
  /** A conversation with its lines typed one after the other, each once the answer before it is whole. */
  function start(...args: readonly string[]) {
    const child: ChildProcess = spawn(process.execPath, [cli, "generate", chat(), "--interactive", "--json", ...args], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const exit = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    return {
      child,
      exit,
      async ask(text: string, ranks: number): Promise<readonly string[]> {
        child.stdin!.write(`${text}\n`);
        const answers: string[] = [];
        while (answers.length < ranks) {
          const { value, done } = (await lines.next()) as { readonly value: string; readonly done?: boolean };
          if (done) throw new Error("the conversation ended");
          const line = JSON.parse(value) as Line;
          if (!isPiece(line)) answers.push(line.text);
        }
        return answers;
      },
    };
  }

  test("has a history for each rank, which /reset forgets, and changes its ranks", { timeout: 600_000 }, async () => {
    const talk = start("--r", "8,2", "--system", "kind", "--max-new-tokens", "5");
    const first = await talk.ask("w01", 2);
    const second = await talk.ask("w02", 2);
    const again = await talk.ask("/reset\nw01", 2);
    const alone = await talk.ask("/r 2\nw02", 1);
    talk.child.stdin!.end();
    expect(await talk.exit).toBe(0);
    expect(again).toEqual(first);
    expect(alone).toEqual([second[1]]);

    const generator = await openGenerator({ run: chat() });
    try {
      expect(generator.isChat).toBe(true);
      const turn = (role: "system" | "user" | "assistant", content: string) => ({ role, content });
      const messages = (r: number) => [
        turn("system", "kind"),
        turn("user", "w01"),
        turn("assistant", first[r === 8 ? 0 : 1]!),
        turn("user", "w02"),
      ];
      const { form, byRank } = await generator.ask({ messages, ranks: [8, 2], maxNewTokens: 5 }).result;
      expect([form, byRank.map(({ text }) => text)]).toEqual(["chat", second]);
      await expect(generator.ask({ messages: [turn("user", "w01 ".repeat(80))] }).result).rejects.toThrow("64 positions");
    } finally {
      await generator.close();
    }
  });

  test.each([
    ["SIGINT", 130],
    ["SIGKILL", null],
  ] as const)("leaves no worker behind after %s", { timeout: 600_000 }, async (signal, code) => {
    const talk = start("--r", "1");
    await talk.ask("w01", 1);
    const pid = talk.child.pid!;
    expect(workersOf(pid)).toHaveLength(1);
    talk.child.kill(signal);
    expect(await talk.exit).toBe(code);
    await eventually(() => expect(workersOf(pid)).toEqual([]));
  });

  test("leaves no worker behind after SIGTERM while the model is loaded", { timeout: 600_000 }, async () => {
    const talk = start("--r", "1");
    const pid = talk.child.pid!;
    await eventually(() => expect(workersOf(pid)).toHaveLength(1));
    talk.child.kill("SIGTERM");
    expect(await talk.exit).toBe(130);
    await eventually(() => expect(workersOf(pid)).toEqual([]));
  });
});
