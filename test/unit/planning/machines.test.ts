import { expect, test } from "vitest";
import type { RunConfig } from "../../../src/config/schema.ts";
import { machinesOf } from "../../../src/planning/machines.ts";
import type { RankedClient } from "../../../src/strategy/strategy.ts";

const configOf = (workers: object, policy = "segment-wise", clientState = "new") =>
  ({ workers, fit: { clientState }, strategy: { aggregation: { policy: { name: policy } } } }) as unknown as RunConfig;
const client = (r: number) => ({ r }) as RankedClient;

test("each machine gets the largest adapter of every round once, however many clients are selected", async () => {
  const many = Array.from({ length: 300_000 }, (_, index) => client(index === 7 ? 16 : 2));
  const machines = await machinesOf(configOf({ command: ["ssh"], hosts: ["a", "b"] }), [many, [client(4), client(1)], []], (r) => 100 * r);
  expect(machines).toEqual({ hosts: ["a", "b"], bytesDown: 2000, cluster: null });
});

test.each([
  ["FLoRA's merged components", "flora", "new"],
  ["the states of clients' optimizers", "segment-wise", "keep"],
])("%s, which differ from client to client, are not foretold", async (_, policy, clientState) => {
  expect(await machinesOf(configOf({ command: ["srun"] }, policy, clientState), [[client(4)]], (r) => r)).toMatchObject({
    hosts: null,
    bytesDown: null,
  });
});

test("workers on this machine have no machines", async () => {
  expect(await machinesOf(configOf({}), [[client(4)]], (r) => r)).toBeUndefined();
});
