import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { tinyLauncher } from "prelort/testing";
import { expect, onTestFinished, test } from "vitest";
import { createApp } from "../fastify/app.ts";
import { Runs } from "../fastify/runs.ts";

/** The service of ../fastify, which trains a tiny model in this process. */
async function openService() {
  const runsDir = await mkdtemp(path.join(tmpdir(), "service-"));
  const config = path.join(import.meta.dirname, "../fastify/tiny.yaml");
  const app = createApp(new Runs({ runsDir, config, launcher: tinyLauncher() }));
  onTestFinished(async () => {
    await app.close();
    await rm(runsDir, { recursive: true });
  });
  return app;
}

test("a run that was started ends, and its events are numbered in order", async () => {
  const app = await openService();
  await app.inject({ method: "POST", url: "/runs", payload: { name: "a", set: { rounds: 2 } } });
  const { payload } = await app.inject("/runs/a/events");
  const ids = [...payload.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id));
  expect(ids).toEqual(ids.toSorted((a, b) => a - b));
  expect(payload).toContain('"type":"run-end"');
  expect((await app.inject("/runs/a")).json()).toMatchObject({ state: "ended", metrics: [{ round: 0 }, { round: 1 }, { round: 2 }] });
});

test("a request names everything that is wrong with it", async () => {
  const app = await openService();
  const { statusCode, json } = await app.inject({ method: "POST", url: "/runs", payload: { set: { rounds: 0, "model.task": "x" } } });
  expect(statusCode).toBe(400);
  expect(
    json()
      .issues.map(({ path }: { readonly path: string }) => path)
      .toSorted(),
  ).toEqual(["model.task", "rounds"]);
});
