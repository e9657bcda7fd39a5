import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { federate } from "prelort";
import { clientsOf, selectionContext, tinyRun } from "prelort/testing";
import { expect, onTestFinished, test } from "vitest";
import { longestAgo } from "./policy.ts";

const reported = (round: number) => ({ round, rmsLoss: 1 });

test("clients that never reported are selected first, then those that reported longest ago", async () => {
  const history = { c0: reported(3), c1: reported(1), c3: reported(2) };
  const context = selectionContext(clientsOf([{}, {}, {}, {}]), { round: 4, history });
  expect(await longestAgo({ count: 3 })(context)).toEqual(["c2", "c1", "c3"]);
});

test("in a whole run, every client trains once before any trains again", async () => {
  const runsDir = await mkdtemp(path.join(tmpdir(), "policy-"));
  onTestFinished(() => rm(runsDir, { recursive: true }));
  const trained: string[] = [];
  for await (const event of federate(tinyRun({ runsDir, rounds: 4, strategy: { selection: longestAgo({ count: 2 }) } }))) {
    if (event.type === "round-start") trained.push(...event.clients.map(({ id }) => id));
  }
  expect(trained).toHaveLength(8);
  expect(new Set(trained).size).toBe(8);
});
