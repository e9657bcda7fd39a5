import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RunFailedError } from "../../../src/errors.ts";
import { type ClientHistory, federate, type RankAssigner, type RoundMetrics, tieredRanks } from "../../../src/index.ts";
import { SESSION } from "../../../src/protocol/limits.ts";
import { ClientStates } from "../../../src/server/client-states.ts";
import { fitSeed } from "../../../src/server/task-requests.ts";
import { createUpdateStore, type RoundUpdates } from "../../../src/records/update-store.ts";
import { asFloat32 } from "../../../src/tensor/encoded.ts";
import { clientsOf, tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";
import type { Reply } from "../../../src/workers/task.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-client-states-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const SEED = 7;
const HASHES = new Map([0, 1, 2, 3].map((round) => [round, `${round}`.repeat(64)]));
const seeded = (id: string, round: number) => ({ id, seed: fitSeed(SEED, round, id) });

/** An update of one value, and a state that is all `value`. */
function replyOf(clientId: string, value: number, r = 4): Reply<"fit"> {
  const payload = { rows: asFloat32(Float32Array.of(value)), state: asFloat32(new Float32Array(3).fill(value)) };
  const tensors = Object.entries(payload).map(([name, { length, bytes }]) => ({
    name: name as "rows" | "state",
    dtype: "F32" as const,
    shape: [length],
    bytes: bytes.length,
    crc32: 0,
    shared: null,
  }));
  const figures = { scale: 2, n: 10, steps: 3, passes: 3, loss: 0.5, rms_loss: 0.5, seconds: 1 };
  const unknown = { grad_norm: null, norm: null, peak_memory_bytes: null };
  const message = {
    ...SESSION,
    type: "fitted",
    task_id: "t",
    attempt: 1,
    client_id: clientId,
    r,
    ...figures,
    ...unknown,
    tensors,
  } as const;
  return { workerId: "w0", attempt: 1, message, payload, close() {} };
}

/** The stores of a run in which each client last reported in this round. */
function storesOf(history: ReadonlyMap<string, Pick<ClientHistory, "round">>, maxBytes = 1e9) {
  const states = new ClientStates({ folder: path.join(folder, "client-states"), seed: SEED, history, hashes: HASHES });
  const store = states.beside(createUpdateStore({ folder: path.join(folder, "updates"), isRecorded: false, isRead: true, maxBytes }));
  return { states, open: (round: number) => store.open(round, HASHES.get(round - 1) ?? "") };
}

async function stateOf(updates: RoundUpdates, id: string): Promise<readonly number[] | undefined> {
  const bytes = await updates.stateOf?.(id)?.();
  return bytes && [...new Float32Array(bytes.slice().buffer)];
}

test("a fit starts from the state of the client's last committed round, whatever else has arrived since", async () => {
  const history = new Map<string, { round: number }>();
  const { states, open } = storesOf(history);
  const first = await open(1);
  expect(first.stateOf?.("c0")).toBeUndefined();
  for (const id of ["c0", "c1", "c2"]) await first.keep(seeded(id, 1), replyOf(id, 1));
  for (const id of ["c0", "c1"]) history.set(id, { round: 1 });
  await states.removeOthers();
  const second = await open(2);
  await second.keep(seeded("c0", 2), replyOf("c0", 2));
  // The round has not been committed, and c2's update did not count.
  expect([await stateOf(second, "c0"), await stateOf(second, "c1"), await stateOf(second, "c2")]).toEqual([
    [1, 1, 1],
    [1, 1, 1],
    undefined,
  ]);
  history.set("c0", { round: 2 });
  await states.removeOthers();
  expect([await stateOf(second, "c0"), await stateOf(second, "c1")]).toEqual([
    [2, 2, 2],
    [1, 1, 1],
  ]);
  expect(["1/c0", "1/c1", "1/c2", "2/c0"].map((name) => existsSync(path.join(folder, "client-states", `${name}.safetensors`)))).toEqual([
    false,
    true,
    false,
    true,
  ]);
});

test("an update of an interrupted round counts again only if its state is there", async () => {
  const { open } = storesOf(new Map());
  const before = await open(1);
  for (const id of ["c0", "c1"]) await before.keep(seeded(id, 1), replyOf(id, 1));
  rmSync(path.join(folder, "client-states/1/c1.safetensors"));
  const resumed = await open(1);
  const taken: string[] = [];
  const restored = await Promise.all(
    ["c0", "c1"].map((id) => resumed.restore(seeded(id, 1), async ({ reply }) => taken.push(reply.message.client_id))),
  );
  expect([taken, restored.map((reply) => reply?.message.tensors.map(({ name }) => name))]).toEqual([["c0"], [["rows"], undefined]]);
});

test("a state is kept where there is no room for the update, and the update is kept without it", async () => {
  const none = await storesOf(new Map(), 0).open(1);
  expect(await none.keep(seeded("c0", 1), replyOf("c0", 1))).toBeUndefined();
  expect(existsSync(path.join(folder, "client-states/1/c0.safetensors"))).toBe(true);
  const stored = await (await storesOf(new Map(), 4).open(1)).keep(seeded("c1", 1), replyOf("c1", 0.5));
  expect(await stored?.read("rows", 0, 1)).toEqual(Float32Array.of(0.5));
});

test("states that are missing or of another rank are reported together before a round", async () => {
  const history = new Map(["c0", "c1", "c2", "c3"].map((id) => [id, { round: 1 }] as const));
  const { states, open } = storesOf(history);
  const updates = await open(1);
  for (const id of ["c0", "c1", "c2"]) await updates.keep(seeded(id, 1), replyOf(id, 1));
  const [c0, c1, c2, c3, c4] = clientsOf([{ r: 4 }, { r: 2 }, { r: 8 }, { r: 4 }, { r: 1 }]);
  const failure = (selected: readonly (typeof c0)[], all = selected) => {
    try {
      states.requireFor(2, selected as never, all as never);
      return undefined;
    } catch (error) {
      expect(error).toBeInstanceOf(RunFailedError);
      return (error as Error).message;
    }
  };
  // In a resumed run's first round, those of clients that it does not ask, too.
  expect(failure([c0, c4], [c0, c1, c2, c3, c4])).toMatch(
    /client-states\/1\/c3\.safetensors: expected .* client c3's .* round 1, got no such/,
  );
  await updates.keep(seeded("c3", 1), replyOf("c3", 1));
  expect(failure([c0, c4], [c0, c1, c2, c3, c4])).toBeUndefined();
  const told = failure([c0, c1, c2]);
  expect(told).toMatch(/client c1 has rank 2 in round 2, .* rank 4, from its fit in round 1: .*client_state: new/);
  expect(told).toContain("client c2 has rank 8");
  expect(told).not.toContain("c0");
});

test("a state that is damaged when it is to be sent ends the run, and is no fault of a worker or a client", async () => {
  const { open } = storesOf(new Map([["c0", { round: 1 }]]));
  await (await open(1)).keep(seeded("c0", 1), replyOf("c0", 1));
  const file = path.join(folder, "client-states/1/c0.safetensors");
  writeFileSync(file, readFileSync(file).fill(1, readFileSync(file).length - 4));
  const read = (await open(2)).stateOf?.("c0");
  await expect(read?.()).rejects.toThrow(RunFailedError);
  await expect(read?.()).rejects.toThrow(file);
});

async function metricsOf(options: Partial<TinyRunOptions>): Promise<readonly RoundMetrics[]> {
  return (await federate(tinyRun({ runsDir: folder, ...options })).result).metrics;
}

test("a run counts the bytes of the states that it sends and receives, and leaves none behind", async () => {
  const strategy = { rankAssignment: tieredRanks({ 4: 1 }) };
  const lora = { r: 4, tiers: [4] };
  const plain = await metricsOf({ strategy, lora, fit: { localSteps: 1 } });
  const kept = await metricsOf({ name: "kept", strategy, lora, fit: { localSteps: 1, clientState: "keep" } });
  const { bytesUp = 0 } = plain[1] ?? {};
  // Two values for each of the update's, and how many steps A, B and the head's vector have had.
  const states = 2 * bytesUp + 8 * 3 * 4;
  expect(kept.map((round, index) => [round.bytesDown - plain[index]!.bytesDown, round.bytesUp - plain[index]!.bytesUp])).toEqual([
    [0, 0],
    [0, states],
    [states, states],
    [states, states],
  ]);
  expect(existsSync(path.join(folder, "kept", "client-states"))).toBe(false);
});

test("a rank that changes is refused with its client, round and ranks", async () => {
  const rankAssignment: RankAssigner = Object.assign(() => 4, { revise: ({ id }: { id: string }) => (id === "c3" ? 2 : 4) });
  const running = metricsOf({ strategy: { rankAssignment }, fit: { localSteps: 1, clientState: "keep" } });
  await expect(running).rejects.toThrow(/client \S*3 has rank 2 in round 2, .* rank 4, from its fit in round 1/);
  await expect(running).rejects.toThrow(RunFailedError);
});
