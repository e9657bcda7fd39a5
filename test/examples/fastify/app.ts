import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import Fastify, { type FastifyInstance } from "fastify";
import { ConfigError, EVENT_VERSION, exportRun, type RunEvent, writeReport } from "prelort";
import { create } from "tar";
import type { Choices, Runs } from "./runs.ts";

const id = { type: "string", pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$" };
const priority = { type: "integer" };
const ofRun = { params: { type: "object", properties: { id, r: { type: "integer" } } } };
type OfRun = { Params: { id: string } };

/** Everything over HTTP. Closing it stops the runs. */
export function createApp(runs: Runs): FastifyInstance {
  const app = Fastify({ logger: true, return503OnClosing: false });
  let isClosing = false;
  app.addHook("onRequest", async (request, reply) => {
    if (!isClosing) return;
    // A browser's EventSource tries again when its connection is refused or cut, but never after a 503.
    reply.hijack();
    request.raw.destroy();
  });

  app.post<{ Body: { name?: string; set?: Choices; priority?: number } }>(
    "/runs",
    { schema: { body: { type: "object", properties: { name: id, set: { type: "object" }, priority } } } },
    async ({ body: { name = randomUUID(), set, priority } }, reply) => {
      await runs.start(name, set, priority);
      return reply.code(202).send(await runs.describe(name));
    },
  );

  app.get("/runs", () => runs.list());
  app.get<OfRun>("/runs/:id", { schema: ofRun }, ({ params }) => runs.describe(params.id));

  app.post<OfRun>("/runs/:id/stop", { schema: ofRun }, async ({ params }, reply) => {
    await runs.stop(params.id);
    return reply.code(204).send();
  });

  app.post<OfRun & { Querystring: { priority?: number } }>(
    "/runs/:id/resume",
    { schema: { ...ofRun, querystring: { type: "object", properties: { priority } } } },
    async ({ params, query }, reply) => {
      await runs.resume(params.id, query.priority);
      return reply.code(202).send(await runs.describe(params.id));
    },
  );

  app.get<OfRun & { Headers: { "last-event-id"?: number } }>(
    "/runs/:id/events",
    { schema: { ...ofRun, headers: { type: "object", properties: { "last-event-id": { type: "integer", minimum: 0 } } } } },
    async ({ params, headers }, reply) => {
      const gone = new AbortController();
      reply.raw.once("close", () => gone.abort());
      const events = await runs.events(params.id, { after: headers["last-event-id"] ?? 0, signal: gone.signal });
      // A browser's EventSource comes back after every end, until it is told that there is no more.
      if (!events) return reply.code(204).send();
      reply.headers({ "content-type": "text/event-stream", "cache-control": "no-store", connection: "close" });
      return reply.send(Readable.from(serverSent(events)));
    },
  );

  app.get<OfRun>("/runs/:id/report", { schema: ofRun }, async ({ params }, reply) => {
    const { directory } = await runs.load(params.id);
    return reply.type("text/html").send(createReadStream(await writeReport(directory)));
  });

  app.get<{ Params: { id: string; r: number } }>("/runs/:id/adapters/:r", { schema: ofRun }, async ({ params: { id, r } }, reply) => {
    const { directory } = await runs.load(id);
    const folder = await mkdtemp(path.join(tmpdir(), "adapter-"));
    reply.raw.once("close", () => void rm(folder, { recursive: true }));
    await exportRun(directory, { r, out: path.join(folder, `${id}-r${r}`) });
    reply.headers({ "content-disposition": `attachment; filename="${id}-r${r}.tar"` });
    return reply.type("application/x-tar").send(Readable.from(create({ cwd: folder }, [`${id}-r${r}`])));
  });

  app.setErrorHandler((error, _, reply) => {
    if (!(error instanceof ConfigError)) return reply.send(error);
    return reply.code(400).send({ issues: error.issues.map(({ path, message }) => ({ path, message })) });
  });

  app.addHook("preClose", async () => {
    isClosing = true;
    app.server.close();
    await runs.close();
    // Readers have their last events by then, unless they have stopped reading.
    setTimeout(() => app.server.closeAllConnections(), 5000).unref();
  });
  return app;
}

async function* serverSent(events: AsyncIterable<RunEvent>): AsyncGenerator<string> {
  yield "retry: 1000\n\n";
  for await (const event of events) yield `id: ${event.number}\ndata: ${JSON.stringify({ version: EVENT_VERSION, ...event })}\n\n`;
}
