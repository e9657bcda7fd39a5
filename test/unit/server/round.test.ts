import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { validateRun } from "../../../src/config/build.ts";
import type { RunConfig } from "../../../src/config/schema.ts";
import { RefusedError, RunFailedError } from "../../../src/errors.ts";
import {
  allClients,
  type Aggregation,
  listRanks,
  type RankAssigner,
  type RankedClient,
  segmentWise,
  type SelectionContext,
} from "../../../src/index.ts";
import { PROTOCOL_VERSION } from "../../../src/protocol/limits.ts";
import { runRound, type RoundOutcome } from "../../../src/server/round.ts";
import { selectClients } from "../../../src/server/select-clients.ts";
import { indexIds } from "../../../src/protocol/id-index.ts";
import { createUpdateStore } from "../../../src/records/update-store.ts";
import { asFloat32 } from "../../../src/tensor/encoded.ts";
import type { Reply, Task, WorkerPool } from "../../../src/workers/task.ts";
import { clientsOf } from "../../../src/testing/index.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-round-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

interface Setup {
  readonly width: number;
  readonly value: number;
  readonly rankAssignment?: RankAssigner;
  readonly aggregation?: Aggregation;
  readonly maxGradNorm?: number;
}

/** A round of two clients with ranks 2 and 1 that answer at once; `value` fills the first one's update. */
async function runTwo(setup: Setup): Promise<RoundOutcome> {
  const { width, value, rankAssignment = listRanks([2, 1]), aggregation = segmentWise(), maxGradNorm = 0 } = setup;
  const layout = createLayout({ r: 2, tiers: [1, 2], scale: 1 }, { modules: [{ name: "m", in: width / 2, out: width / 2 }], dense: [] });
  const config = validateRun({
    rounds: 3,
    fit: { maxGradNorm },
    model: { nameOrPath: "m", task: "causal-lm" },
    lora: { r: 2, tiers: [1, 2], target_modules: ["m"] },
    data: { path: "d", prompt: "{a}", answer: "{b}", clients: 2 },
    strategy: { selection: allClients(), rankAssignment, aggregation },
  });
  const pool = {
    async run(task: Task<"fit">) {
      const { r, client_id, scale } = task.request as { r: number; client_id: string; scale: number };
      const rows = new Float32Array(r * width).fill(client_id === "c0" ? value : 0.5);
      const counts = {
        n: 10,
        steps: 1,
        passes: 1,
        loss: 1,
        rms_loss: 1,
        grad_norm: client_id === "c0" ? 3 : 5,
        norm: null,
        seconds: 1,
        peak_memory_bytes: null,
      };
      const tensors = [{ name: "rows" as const, dtype: "F32" as const, shape: [r, width], bytes: rows.byteLength, crc32: 0, shared: null }];
      const envelope = { type: "fitted", protocol_version: PROTOCOL_VERSION, task_id: task.id, attempt: 1 } as const;
      const message: Reply<"fit">["message"] = { ...envelope, client_id, r, scale, ...counts, tensors };
      const reply: Reply<"fit"> = { workerId: "w0", attempt: 1, message, payload: { rows: asFloat32(rows) }, close() {} };
      await task.accept?.(reply);
      return reply;
    },
  } as unknown as WorkerPool;
  return runRound({
    round: 1,
    config,
    pool,
    adapter: "a".repeat(64),
    layout,
    global: { r: 2, rows: new Float32Array(2 * width), dense: new Float32Array(0) },
    state: {},
    history: new Map(),
    selected: clientsOf([{ r: 2 }, { r: 1 }]),
    updates: await createUpdateStore({ folder, isRecorded: true, isRead: false, maxBytes: 1e12 }).open(1, "a".repeat(64)),
  });
}

test("a round with gradient clipping has the mean gradient norm, weighted by the clients' examples", async () => {
  const { size: a } = clientsOf([{ r: 2 }, { r: 1 }])[0] as RankedClient;
  const { size: b } = clientsOf([{ r: 2 }, { r: 1 }])[1] as RankedClient;
  expect((await runTwo({ width: 4, value: 1, maxGradNorm: 0.5 })).gradNorm).toBeCloseTo((3 * a + 5 * b) / (a + b), 12);
  expect((await runTwo({ width: 4, value: 1 })).gradNorm).toBeUndefined();
});

test("an update that cannot be recorded ends the run and says what to do, however long adding it takes", async () => {
  const slow: Aggregation = {
    ...segmentWise(),
    begin(context) {
      mkdirSync(path.join(folder, "1", "c0.safetensors"), { recursive: true });
      const inner = segmentWise().begin(context);
      const add: typeof inner.add = async (update) => {
        await new Promise((resolve) => setImmediate(() => setImmediate(() => setImmediate(resolve))));
        await inner.add(update);
      };
      return { folds: true, add, finish: () => inner.finish() };
    },
  };
  const error = await runTwo({ width: 4, value: 0.5, aggregation: slow }).catch((cause: unknown) => cause);
  expect(error).toMatchObject({
    kind: "environment",
    message: expect.stringMatching(/\bc0\.safetensors\b[^]*prelort resume/),
  });
});

test("a rank assignment that revises ranks never sees NaN or Infinity", async () => {
  const seen: number[] = [];
  const rankAssignment: RankAssigner = Object.assign(listRanks([2, 1]), {
    revise: (_: unknown, { delta }: { readonly delta: { readonly rows: Float32Array } }) => {
      seen.push(...delta.rows);
      return 1;
    },
  });
  const outcome = await runTwo({ width: 4, value: Number.NaN, rankAssignment });
  expect(outcome.failed).toEqual(["c0"]);
  expect(outcome.reported).toEqual(["c1"]);
  expect(seen).toEqual([0.5, 0.5, 0.5, 0.5]);
});

test("a round in which every update is refused fails with the first refusal", async () => {
  const refusing: Aggregation = {
    ...segmentWise(),
    begin(context) {
      const inner = segmentWise().begin(context);
      return {
        add: ({ clientId }) => {
          throw new RefusedError(`the update of client ${clientId}`, "another", "this");
        },
        finish: () => inner.finish(),
      };
    },
  };
  const refusal = { kind: "refused", expected: "another", received: "this", message: expect.stringContaining("client c0") };
  await expect(runTwo({ width: 4, value: 0.5, aggregation: refusing })).rejects.toMatchObject(refusal);
});

describe("a custom policy that fails ends the run with an error that names the policy's", () => {
  const fault = new TypeError("x is undefined");
  const fail = () => {
    throw fault;
  };
  const failLater = async () => fail();
  const failing = (part: "begin" | "distribute" | "distributeTo" | "add" | "finish", fails: () => never | Promise<never>): Aggregation => {
    const whole = segmentWise();
    if (part === "begin" || part === "distribute" || part === "distributeTo") return { ...whole, [part]: fails };
    return { ...whole, begin: (context) => ({ ...whole.begin(context), [part]: fails }) };
  };
  test.each<[string, Pick<Setup, "aggregation" | "rankAssignment">, string]>([
    ["begin()", { aggregation: failing("begin", fail) }, "the aggregation segment-wise's begin() of round 1"],
    ["distribute()", { aggregation: failing("distribute", fail) }, "the aggregation segment-wise's distribute()"],
    ["distributeTo()", { aggregation: failing("distributeTo", fail) }, "the aggregation segment-wise's distributeTo() of client c0"],
    ["add()", { aggregation: failing("add", fail) }, "the aggregation segment-wise's add() of client c0 in round 1"],
    ["asynchronous add()", { aggregation: failing("add", failLater) }, "the aggregation segment-wise's add() of client c0 in round 1"],
    ["finish()", { aggregation: failing("finish", fail) }, "the aggregation segment-wise's finish() of round 1"],
    ["asynchronous finish()", { aggregation: failing("finish", failLater) }, "the aggregation segment-wise's finish() of round 1"],
    [
      "revise()",
      { rankAssignment: Object.assign(listRanks([2, 1]), { revise: fail }) },
      "the rank assignment list's revise() of client c0",
    ],
  ])("%s", async (_, policies, subject) => {
    const error = await runTwo({ width: 4, value: 0.5, ...policies }).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ kind: "run", cause: fault });
    expect((error as Error).message.startsWith(`${subject} `)).toBe(true);
    expect((error as Error).message).toMatch(/TypeError: x is undefined \(round\.test\.ts:\d+:\d+\)$/);
  });

  test("invalid accumulator", async () => {
    const aggregation = { ...segmentWise(), begin: () => ({ add() {} }) } as unknown as Aggregation;
    const message = expect.stringMatching(/^the aggregation segment-wise's begin\(\).*\badd\(\) and finish\(\)/);
    await expect(runTwo({ width: 4, value: 0.5, aggregation })).rejects.toMatchObject({ kind: "run", message });
  });
});

describe("a custom selection", () => {
  const clients = clientsOf([{ r: 2 }, { r: 1 }]);
  const select = (selection: unknown) => {
    const config = { seed: 0, strategy: { selection } } as unknown as RunConfig;
    const indexOf = indexIds(clients.map(({ id }) => id));
    return selectClients(config, {
      round: 3,
      clients,
      indexOf,
      tiers: [1, 2],
      history: new Map(),
      losses: async (asked) => asked.map(() => 1),
    });
  };
  const unknownClient = { ...clients[0], id: "c9" };

  test("chooses clients, which keep the run's order", async () => {
    expect(await select(async () => ["c1", "c0"])).toEqual(clients);
  });

  test.each<[string, unknown, RegExp]>([
    ["throws", () => Reflect.get(undefined as never, "x"), /^the selection of round 3 .*TypeError/],
    ["returns nothing", function mine() {}, /^the selection mine of round 3 .*undefined$/],
    [
      "names no client",
      function mine() {
        return [];
      },
      /^the selection mine of round 3 .*\bno client/,
    ],
    ["returns a single id", () => "c0", /\barray\b.*"c0"$/],
    ["names an unknown client", () => ["c0", "c9"], /"c9"$/],
    ["names a client twice", () => ["c0", "c0"], /\bonce\b.*"c0"$/],
    ["returns clients instead of ids", () => [clients[0]], /\{"id":"c0"/],
    [
      "asks for the loss of an unknown client",
      ({ losses }: SelectionContext) => losses([unknownClient as RankedClient]),
      /losses\(\).*"id":"c9"/,
    ],
    ["asks for losses without candidates", ({ losses }: SelectionContext) => losses(undefined as never), /losses\(\).*undefined$/],
  ])("that %s ends in a RunFailedError that names it", async (_, selection, message) => {
    await expect(select(selection)).rejects.toBeInstanceOf(RunFailedError);
    await expect(select(selection)).rejects.toThrow(message);
  });
});
