import { randomUUID } from "node:crypto";
import process from "node:process";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { streamSSE } from "hono/streaming";
import { buildRun, ConfigError, federate, loadConfig, type Run } from "prelort";
import { tinyRun } from "prelort/testing";

// `--tiny` trains a tiny model inside this process, to try the service without Python.
const isTiny = process.argv.includes("--tiny");
const options = isTiny ? tinyRun({ runsDir: "runs" }) : buildRun(await loadConfig("node_modules/prelort/configs/quickstart.yaml"));
const runs = new Map<string, Run>();
const app = new Hono();

app.post("/runs", async (context) => {
  const { rounds = options.rounds } = await context.req.json<{ rounds?: number }>();
  const id = randomUUID();
  runs.set(id, federate({ ...options, rounds, name: id }));
  return context.json({ id }, 201);
});
app.get("/runs/:id/events", (context) => {
  const run = runs.get(context.req.param("id"));
  if (!run) return context.notFound();
  const range = { after: Number(context.req.header("last-event-id") ?? 0), signal: context.req.raw.signal };
  return streamSSE(context, async (stream) => {
    for await (const event of run.events(range)) await stream.writeSSE({ id: `${event.number}`, data: JSON.stringify(event) });
  });
});
app.post("/runs/:id/stop", async (context) => {
  const run = runs.get(context.req.param("id"));
  if (!run) return context.notFound();
  await run.stop();
  return context.json({ state: run.state });
});
app.onError((error, context) =>
  context.json({ issues: error instanceof ConfigError ? error.issues : [] }, error instanceof ConfigError ? 400 : 500),
);

const server = serve({ fetch: app.fetch, port: Number(process.env["PORT"] ?? 3000) }, ({ port }) =>
  console.log(`http://localhost:${port}`),
);
process.once("SIGTERM", () => void Promise.all([...runs.values()].map((run) => run.stop())).then(() => server.close()));
