import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import {
  type AnswerPiece,
  ConfigError,
  federate,
  generate,
  InterruptedError,
  openGenerator,
  type Question,
  type TextGenerator,
  type WorkerLauncher,
} from "../../../src/index.ts";
import type { WorkerMessageOf } from "../../../src/protocol/messages.ts";
import { createAsk } from "../../../src/server/answer.ts";
import { requestOf } from "../../../src/server/question.ts";
import { tinyLauncher, tinyRun } from "../../../src/testing/index.ts";
import type { Task, WorkerPool } from "../../../src/workers/task.ts";

const folder = mkdtempSync(path.join(tmpdir(), "prelort-generate-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function piecesOf(pieces: AsyncIterable<AnswerPiece>): Promise<ReadonlyMap<number, readonly string[]>> {
  const byRank = new Map<number, string[]>();
  for await (const { r, text } of pieces) byRank.set(r, [...(byRank.get(r) ?? []), text]);
  return byRank;
}

describe("a tiny model, which answers with its labels, the likeliest first", () => {
  const run = path.join(folder, "tiny");
  let generator: TextGenerator;
  const asked: Question = { prompt: "hello", ranks: [4, 1] };
  beforeAll(async () => {
    await federate(tinyRun({ runsDir: folder, name: "tiny" })).result;
    generator = await openGenerator({ ...tinyRun({ runsDir: folder, lora: { r: 8, init_from: run } }) });
  });
  afterAll(() => generator.close());
  const texts = async (question: Question) => {
    const { byRank } = await generator.ask(question).result;
    return byRank.map(({ r, text }) => [r, text] as const);
  };

  test("tells each rank's answer in pieces that join to the whole, in the order of the ranks", async () => {
    const answer = generator.ask(asked);
    const pieces = await piecesOf(answer);
    const { byRank } = await answer.result;
    expect([...pieces.keys()]).toEqual([4, 1]);
    expect(byRank.map(({ r, text }) => [r, text])).toEqual([...pieces].map(([r, parts]) => [r, parts.join("")]));
    for (const { text, tokens, finish } of byRank) {
      expect(text.split(" ").toSorted()).toEqual(["a", "b", "c", "d", "e", "f", "g", "h"]);
      expect([tokens, finish]).toEqual([8, "stop"]);
    }
  });

  test("answers as a model that was loaded for one question, at all tiers by default, up to a number of tokens", async () => {
    const once = generate({ ...tinyRun({ runsDir: folder, lora: { r: 8, init_from: run } }), prompt: "hello", maxNewTokens: 3 });
    const { byRank } = await once.result;
    expect(byRank.map(({ r, tokens, finish }) => [r, tokens, finish])).toEqual([1, 2, 4, 8].map((r) => [r, 3, "length"]));
    expect(await texts({ prompt: "hello", maxNewTokens: 3 })).toEqual(byRank.map(({ r, text }) => [r, text]));
    expect(await piecesOf(once)).toEqual(new Map(byRank.map(({ r, text }) => [r, [text[0], text.slice(1, 3), text.slice(3)]])));
  });

  test("gives each rank its own conversation, and a rank's answer depends on that alone", async () => {
    const turn = (content: string) => [{ role: "user", content } as const];
    const own = await texts({ ranks: [4, 1], messages: (r) => turn(`at ${r}`) });
    expect(own).toEqual([...(await texts({ ranks: [4], prompt: "at 4" })), ...(await texts({ ranks: [1], messages: turn("at 1") }))]);
    expect(own).not.toEqual(await texts({ ranks: [4, 1], prompt: "at 4" }));
  });

  test("samples the same from the same seed, whatever the ranks and their order", async () => {
    const [four, one] = await texts({ ...asked, temperature: 3, seed: 1 });
    expect(await texts({ ...asked, ranks: [1, 4], temperature: 3, seed: 1 })).toEqual([one, four]);
    expect(await texts({ ...asked, temperature: 3, seed: 2 })).not.toEqual([four, one]);
  });

  test("answers the next question after one was stopped", async () => {
    const stopping = new AbortController();
    const stopped = generator.ask({ ...asked, signal: stopping.signal });
    const heard: AnswerPiece[] = [];
    const listening = (async () => {
      for await (const piece of stopped) {
        heard.push(piece);
        stopping.abort();
      }
    })();
    await expect(listening).rejects.toThrow(InterruptedError);
    await expect(stopped.result).rejects.toThrow("the answer was stopped");
    expect(heard.length).toBeLessThan(16);
    expect(await texts(asked)).toHaveLength(2);
  });

  test("a closed generator answers nothing more, and may be closed again", async () => {
    const other = await openGenerator({ ...tinyRun({ runsDir: folder, lora: { r: 8 } }) });
    await other.close();
    await other.close();
    await expect(other.ask(asked).result).rejects.toThrow(InterruptedError);
  });

  test("its signal ends it", async () => {
    const controller = new AbortController();
    const other = await openGenerator({ ...tinyRun({ runsDir: folder, lora: { r: 8 } }), signal: controller.signal });
    const answer = other.ask(asked);
    controller.abort();
    await expect(answer.result).rejects.toThrow(InterruptedError);
    await other.close();
  });
});

test("a generator's worker ends when its signal aborts", async () => {
  const tiny = tinyLauncher();
  const exits: Promise<unknown>[] = [];
  const launcher: WorkerLauncher = {
    launch(options) {
      const worker = tiny.launch(options);
      exits.push(worker.exited);
      return worker;
    },
  };
  const leaving = new AbortController();
  const generator = await openGenerator({ ...tinyRun({ runsDir: folder, launcher }), signal: leaving.signal });
  leaving.abort();
  await Promise.all(exits);
  expect(exits).toHaveLength(1);
  await expect(generator.ask({ prompt: "hello" }).result).rejects.toThrow(InterruptedError);
  await generator.close();
});

test("a wrong question starts no worker", async () => {
  let launched = 0;
  const tiny = tinyLauncher();
  const launcher = { ...tiny, launch: (options: Parameters<typeof tiny.launch>[0]) => (launched++, tiny.launch(options)) };
  const answer = generate({ ...tinyRun({ runsDir: folder }), launcher, prompt: "a", ranks: [9] });
  await expect(answer.result).rejects.toThrow("whole numbers from 1 to 8");
  expect(launched).toBe(0);
});

test.each<[string, Question, readonly string[]]>([
  ["a rank above the adapter's", { prompt: "a", ranks: [1, 9] }, ["r"]],
  ["no rank", { prompt: "a", ranks: [] }, ["r"]],
  ["a rank that is named twice", { prompt: "a", ranks: [2, 2] }, ["r"]],
  ["nothing to ask", {}, ["prompt"]],
  ["a prompt and messages", { prompt: "a", messages: [] }, ["messages"]],
  ["a system message beside messages", { system: "s", messages: [] }, ["system"]],
  [
    "several wrong numbers",
    { prompt: "a", maxNewTokens: 0, temperature: -1, topP: 0, seed: 0.5 },
    ["maxNewTokens", "temperature", "topP", "seed"],
  ],
])("%s is refused", (_, question, paths) => {
  const ask = () => requestOf(question, { r: 8, tiers: [1, 8] });
  expect(ask).toThrow(ConfigError);
  expect(ask).toThrow(expect.objectContaining({ issues: paths.map((path) => expect.objectContaining({ path }) as unknown) }));
});

describe("pieces of an answer", () => {
  const layout = createLayout({ r: 2, tiers: [1, 2], scale: 1 }, { modules: [{ name: "m", in: 2, out: 2 }], dense: [] });
  const adapter = { r: 2, rows: new Float32Array(8), dense: new Float32Array(0) };
  const said = (attempt: number, text: string, r = 2) => ({ attempt, r, text }) as WorkerMessageOf<"text">;

  /** Asks rank 2 of a worker that does this. */
  function ask(work: (task: Task<"generate">) => void, payloads: unknown[] = []) {
    const pool = {
      async run(task: Task<"generate">) {
        payloads.push(task.payload);
        work(task);
        const answers = [{ r: 2, text: "one two three", tokens: 3, finish: "stop", seconds: 1, labels: null }];
        const reply = { message: { form: "raw", answers } } as unknown as Parameters<NonNullable<typeof task.accept>>[0];
        await task.accept?.(reply);
        return reply;
      },
    } as unknown as WorkerPool;
    return createAsk({ pool, layout, adapter, data: {} as never });
  }
  const question: Question = { prompt: "a", ranks: [2] };

  test("an attempt that begins anew is heard in silence up to where the one before it broke off", async () => {
    const answer = ask(({ hear }) => {
      for (const [attempt, text] of [
        [1, "one"],
        [1, " tw"],
        [2, "o"],
        [2, "ne two"],
        [2, " three"],
      ] as const)
        hear?.(said(attempt, text));
    })(question);
    expect(await piecesOf(answer)).toEqual(new Map([[2, ["one", " tw", "o", " three"]]]));
  });

  test("text at a rank that was not asked is refused", async () => {
    await expect(ask(({ hear }) => hear?.(said(1, "a", 1)))(question).result).rejects.toThrow("at rank 1");
  });

  test("an answer without end is refused", async () => {
    const endless = ask(({ hear }) => {
      for (let count = 0; count < 5; count++) hear?.(said(1, "x".repeat(1_000_000)));
    });
    await expect(endless(question).result).rejects.toThrow("4000000 characters");
  });

  test("an answer at other ranks than those that were asked is refused", async () => {
    await expect(ask(() => undefined)({ prompt: "a", ranks: [1] }).result).rejects.toThrow("expected ranks 1");
  });

  test("questions at the same largest rank send the same object, whose checksums are computed once", async () => {
    const payloads: unknown[] = [];
    const asking = ask(() => undefined, payloads);
    for (let count = 0; count < 2; count++) await asking(question).result;
    expect(payloads[0]).toBe(payloads[1]);
  });
});
