import { beforeEach, describe, expect, it } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { createDeferred } from "../../../src/base/deferred.ts";
import type { WorkerMessageOf } from "../../../src/protocol/messages.ts";
import type { ArrivedSum } from "../../../src/records/sum-file.ts";
import { HeldUpdates } from "../../../src/server/held-updates.ts";
import { layoutOf } from "../../../src/testing/index.ts";
import type { Reply, Task, WorkerPool } from "../../../src/workers/task.ts";

const basis = { round: 2, adapter: "ab".repeat(32), resolution: 2 ** 20 };
const layout = layoutOf({ tiers: [1, 2, 4] });

/** A pool whose workers answer a request for their sum with these members and basis. */
let members: { task_id: string; attempt: number }[];
let answered: object;
let asked: { readonly workerId: string; readonly expect: unknown }[];
let accepted: string[][];
let grants: (number | null)[];
let gone: ReturnType<typeof createDeferred<void>>;
beforeEach(() => {
  [members, answered, asked, accepted, grants, gone] = [[], {}, [], [], [], createDeferred<void>()];
});

const pool = {
  grant(_: string, { task_id, attempt }: { task_id: string; attempt: number }, weight: number | null) {
    grants.push(weight);
    members.push({ task_id, attempt });
  },
  ended: () => gone.promise,
  async runOn(workerId: string, task: Task<"collect">) {
    asked.push({ workerId, expect: task.expect });
    const message = { type: "collected", basis, members, ...answered } as WorkerMessageOf<"collected">;
    members = [];
    const reply: Reply<"collect"> = { workerId, attempt: 1, message, payload: {}, close() {} };
    await task.accept?.(reply);
    return reply;
  },
} as unknown as WorkerPool;

function held(every: number): HeldUpdates {
  const accept = async ({ fits }: ArrivedSum) => void accepted.push(fits.map(({ client_id }) => client_id));
  return new HeldUpdates({ pool, basis, layout, every, encoding: "packed", accept });
}

function fit(client_id: string, r = 4): Reply<"fit"> {
  const message = { task_id: `round-2/fit/${client_id}`, attempt: 1, client_id, r } as WorkerMessageOf<"fitted">;
  return { workerId: "w0", attempt: 1, message, payload: {}, close() {} };
}

describe("a worker's granted updates", () => {
  it("are collected once there are enough of them, in the shape of the largest rank", async () => {
    const updates = held(2);
    const fates = [updates.grant(fit("a", 1), 3), updates.grant(fit("b", 2), 4), updates.grant(fit("c"), 5)];
    expect(await Promise.all(fates.slice(0, 2))).toEqual(["counted", "counted"]);
    expect(asked).toEqual([{ workerId: "w0", expect: expect.objectContaining({ rows: [2, layout.width] }) }]);
    expect([accepted, grants]).toEqual([[["a", "b"]], [3, 4, 5]]);
    updates.collectAll();
    expect(await fates[2]).toBe("counted");
    expect(accepted).toEqual([["a", "b"], ["c"]]);
  });

  it("are lost with their worker, unless they have arrived", async () => {
    const updates = held(2);
    const fates = [updates.grant(fit("a"), 1), updates.grant(fit("b"), 1), updates.grant(fit("c"), 1)];
    await fates[0];
    gone.resolve();
    expect(await Promise.all(fates)).toEqual(["counted", "counted", "lost"]);
  });

  it.each<[string, () => object]>([
    ["lacks a granted update", () => ({ members: [{ task_id: "round-2/fit/a", attempt: 1 }] })],
    ["has one that was not granted", () => ({ members: [...members, { task_id: "round-2/fit/x", attempt: 1 }] })],
    ["has one twice", () => ({ members: [...members, ...members] })],
    ["has one of another attempt", () => ({ members: members.map((member) => ({ ...member, attempt: 2 })) })],
    ["is of another round", () => ({ basis: { ...basis, round: 1 } })],
    ["is of another adapter", () => ({ basis: { ...basis, adapter: "cd".repeat(32) } })],
    ["has another resolution", () => ({ basis: { ...basis, resolution: 2 ** 21 } })],
  ])("do not count, each of them, if the sum %s", async (_, answer) => {
    const updates = held(3);
    const fates = [updates.grant(fit("a"), 1), updates.grant(fit("b"), 1)];
    answered = answer();
    updates.collectAll();
    for (const fate of await Promise.allSettled(fates))
      expect(fate).toMatchObject({ status: "rejected", reason: expect.any(RefusedError) });
    expect(accepted).toEqual([]);
  });

  it("are forgotten by the worker if they are refused", () => {
    const updates = held(1);
    updates.refuse(fit("a"));
    expect(grants).toEqual([null]);
    updates.collectAll();
    expect(asked).toEqual([]);
  });
});
