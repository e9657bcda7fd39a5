import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Reader, type ServerEvent } from "../support/event-source.ts";
import { installExamples, type Program, startProgram } from "../support/examples.ts";
import { eventually } from "../support/patience.ts";

// The examples as a user copies them, with prelort from its tarball, as processes of their own. They train in-process: no Python.

let folder = "";
beforeAll(async () => {
  folder = realpathSync(mkdtempSync(path.join(tmpdir(), "prelort-examples-")));
  await installExamples(folder);
  // Under strict rules.
  for (const example of ["fastify", "hono", "bullmq", "vitest"]) await execa("npm", ["run", "build"], { cwd: path.join(folder, example) });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** More rounds than any test waits for: such a run is under way until it is stopped. */
const ENDLESS = 1_000_000;

interface Description {
  readonly id: string;
  readonly state: string;
  readonly metrics: readonly { readonly round: number }[];
}

interface Service extends Program {
  readonly url: string;
  /** The answer's JSON, or its text. Fails unless it has this status. */
  request(status: number, method: string, path: string, body?: object): Promise<unknown>;
  describe(id: string): Promise<Description>;
  start(id: string, rounds: number, more?: object): Promise<void>;
}

async function serve(example: string): Promise<Service> {
  const program = startProgram({ folder: path.join(folder, example), script: "start", args: ["--tiny"] });
  onTestFinished(async () => {
    program.kill("SIGKILL");
    await program.ended();
  });
  const [url] = await program.line(/http:\/\/[\w.:]+/);
  async function request(status: number, method: string, at: string, body?: object): Promise<unknown> {
    const content = body && { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    const response = await fetch(`${url}${at}`, { method, ...content });
    const text = await response.text();
    expect(response.status, `${method} ${at}: ${text}`).toBe(status);
    return response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text;
  }
  return Object.assign(program, {
    url,
    request,
    describe: (id: string) => request(200, "GET", `/runs/${id}`) as Promise<Description>,
    async start(id: string, rounds: number, more: object = {}) {
      await request(202, "POST", "/runs", { name: id, set: { rounds }, ...more });
    },
  });
}

const runs = (...parts: string[]) => path.join(folder, "fastify", "runs", ...parts);
const eventsOf = (service: Service, id: string) => `${service.url}/runs/${id}/events`;
const isRoundEnd = ({ type }: ServerEvent) => type === "round-end";

/** Each event once and in order; of `worker-status`, a reader that is behind gets the latest of each worker. */
function expectAllRecorded(id: string, { seen }: Reader): void {
  const lines = readFileSync(runs(id, "events.jsonl"), "utf8").trimEnd().split("\n");
  const told = (events: readonly ServerEvent[]) =>
    events.flatMap(({ type, number }) => (type === "worker-status" ? [] : [`${number} ${type}`]));
  expect(told(seen)).toEqual(told(lines.map((line) => JSON.parse(line) as ServerEvent)));
  for (const [index, { number }] of seen.entries()) expect(number).toBeGreaterThan(seen[index - 1]?.number ?? 0);
}

/** Nothing but the records of its runs. */
function expectNothingLeft(example: string): void {
  expect(readdirSync(path.join(folder, example, "tmp"))).toEqual([]);
  const records = path.join(folder, example, "runs");
  const names = existsSync(records) ? readdirSync(records, { recursive: true, encoding: "utf8" }) : [];
  expect(names.filter((name) => /(^|\/)lock$|\.sock$|\.tmp/.test(name))).toEqual([]);
}

/** On SIGTERM a program ends by itself, and leaves nothing. */
async function expectCleanEnd(program: Program, example: string): Promise<void> {
  program.kill("SIGTERM");
  expect(await program.ended(), program.output).toEqual({ code: 0, signal: null });
  expectNothingLeft(example);
}

function memoryOf({ pid }: Program): string {
  const kib = Number(execFileSync("ps", ["-o", "rss=", "-p", `${pid}`], { encoding: "utf8" }));
  return `${Math.round(kib / 1024)} MiB`;
}

describe("the Fastify service", () => {
  test("trains, and gives state, report, adapters and every problem of a request", async () => {
    const service = await serve("fastify");
    await service.start("whole", 2);
    const reader = new Reader();
    await reader.readAll(eventsOf(service, "whole"));
    expect(reader.seen.at(-1)).toMatchObject({ type: "run-end", version: 1 });
    expect(await service.describe("whole")).toMatchObject({ state: "ended", metrics: [{ round: 0 }, { round: 1 }, { round: 2 }] });
    expect(await service.request(200, "GET", "/runs/whole/report")).toMatch(/^<!doctype html>/);

    const tar = await fetch(`${service.url}/runs/whole/adapters/3`);
    expect(tar.headers.get("content-disposition")).toContain("whole-r3.tar");
    const { stdout } = await execa("tar", ["xf", "-", "-O", "whole-r3/adapter_config.json"], {
      input: new Uint8Array(await tar.arrayBuffer()),
    });
    expect(JSON.parse(stdout)).toMatchObject({ r: 3, peft_type: "LORA" });

    const wrong = { set: { rounds: 0, "fit.lr": -1, "model.name_or_path": "/etc", seed: "x" } };
    const { issues } = (await service.request(400, "POST", "/runs", wrong)) as { issues: { path: string }[] };
    expect(issues.map((issue) => issue.path).toSorted()).toEqual(["fit.lr", "model.name_or_path", "rounds", "seed"]);
    expect(await service.request(400, "GET", "/runs/whole/adapters/9")).toMatchObject({ issues: [{ path: "r" }] });
    await service.request(400, "POST", "/runs", { name: "../outside" });
    await service.request(400, "GET", "/runs/..%2F..%2Fetc");
    await service.request(409, "POST", "/runs", { name: "whole" });
    await service.request(409, "POST", "/runs/whole/resume");
    for (const at of ["", "/events", "/report", "/adapters/2"]) await service.request(404, "GET", `/runs/missing${at}`);
    await service.request(404, "POST", "/runs/missing/stop");
    await expectCleanEnd(service, "fastify");
  });

  test("20 readers of one run, each of which drops its connection once, get every event once and in order", async () => {
    const service = await serve("fastify");
    const before = memoryOf(service);
    await service.start("followed", 10);
    const readers = Array.from({ length: 20 }, () => new Reader());
    await Promise.all(readers.map((reader, index) => reader.readAll(eventsOf(service, "followed"), 1 + 6 * index)));
    for (const reader of readers) expectAllRecorded("followed", reader);
    const late = new Reader();
    await late.readAll(eventsOf(service, "followed"), 100);
    expectAllRecorded("followed", late);
    console.log(`memory of the service with 20 readers: ${before} before, ${memoryOf(service)} after`);
    await expectCleanEnd(service, "fastify");
  });

  test("of 8 queued runs two train at a time, 2 are stopped in flight, and the others end", async () => {
    const service = await serve("fastify");
    await service.start("warm-up", 2);
    await new Reader().readAll(eventsOf(service, "warm-up"));
    const before = memoryOf(service);
    const ids = Array.from({ length: 8 }, (_, index) => `queued-${index}`);
    const isLong = (index: number) => index % 4 === 0;
    for (const [index, id] of ids.entries()) await service.start(id, isLong(index) ? ENDLESS : 2);
    const readers = new Map(ids.map((id) => [id, new Reader()]));
    const reading = ids.map((id, index) => (isLong(index) ? stopInFlight(id) : readers.get(id)!.readAll(eventsOf(service, id))));
    async function stopInFlight(id: string): Promise<void> {
      const reader = readers.get(id)!;
      await reader.readUntil(eventsOf(service, id), isRoundEnd);
      const states = (await service.request(200, "GET", "/runs")) as Description[];
      expect(states.filter(({ state }) => state === "running").length).toBeLessThanOrEqual(2);
      await service.request(204, "POST", `/runs/${id}/stop`);
      expect((await service.describe(id)).state).toBe("interrupted");
      await reader.readAll(eventsOf(service, id));
    }
    await Promise.all(reading);
    for (const [index, id] of ids.entries()) {
      const reader = readers.get(id)!;
      expect(reader.seen.at(-1)).toMatchObject(isLong(index) ? { type: "run-failed", kind: "interrupted" } : { type: "run-end" });
      expectAllRecorded(id, reader);
      expect((await service.describe(id)).state).toBe(isLong(index) ? "interrupted" : "ended");
    }
    console.log(`memory of the service with 8 runs: ${before} before, ${memoryOf(service)} after`);
    await expectCleanEnd(service, "fastify");
  });

  test("a queued run with a higher priority begins first, and one that leaves the queue never begins", async () => {
    const service = await serve("fastify");
    for (const id of ["busy-1", "busy-2"]) await service.start(id, ENDLESS);
    await service.start("later", 1);
    await service.start("sooner", 1, { priority: 10 });
    await service.start("left", 1, { priority: 20 });
    expect((await service.describe("left")).state).toBe("queued");
    await service.request(204, "POST", "/runs/left/stop");
    await service.request(204, "POST", "/runs/busy-1/stop");
    for (const id of ["later", "sooner"]) await new Reader().readAll(eventsOf(service, id));
    // With one place free, the second began when the first had ended.
    const began = (id: string) => (JSON.parse(readFileSync(runs(id, "events.jsonl"), "utf8").split("\n")[0] ?? "") as { at: number }).at;
    expect(began("sooner")).toBeLessThan(began("later"));
    await service.request(404, "GET", "/runs/left");
    await expectCleanEnd(service, "fastify");
  });

  test("SIGTERM stops all runs and leaves nothing; the next process lists and resumes them, and readers continue", async () => {
    const first = await serve("fastify");
    await first.start("done", 1);
    await new Reader().readAll(eventsOf(first, "done"));
    const [ids, waiting] = [
      ["cut-1", "cut-2"],
      ["waiting-1", "waiting-2", "waiting-3"],
    ];
    for (const id of [...ids, ...waiting]) await first.start(id, ENDLESS);
    const readers = ids.flatMap((id) => Array.from({ length: 10 }, () => ({ id, reader: new Reader() })));
    await Promise.all(readers.map(({ id, reader }) => reader.readUntil(eventsOf(first, id), isRoundEnd)));
    const reading = readers.map(({ id, reader }) => reader.readAll(eventsOf(first, id)));
    const queued = waiting.map((id) => new Reader().readAll(eventsOf(first, id)));
    first.kill("SIGTERM");
    await Promise.all([...reading, ...queued]);
    expect(await first.ended()).toEqual({ code: 0, signal: null });
    expectNothingLeft("fastify");
    await expect(fetch(`${first.url}/runs`)).rejects.toThrow(TypeError);

    const second = await serve("fastify");
    const listed = (await second.request(200, "GET", "/runs")) as Description[];
    const states = Object.fromEntries(listed.map(({ id, state }) => [id, state]));
    expect(states).toMatchObject({ done: "ended", "cut-1": "interrupted", "cut-2": "interrupted" });
    for (const id of waiting) expect(states).not.toHaveProperty(id);

    for (const id of ids) await second.request(202, "POST", `/runs/${id}/resume`);
    await second.request(409, "POST", "/runs/cut-1/resume");
    // Half of them saw the last event before the restart, half did not.
    for (const { reader } of readers.filter((_, index) => index % 2 === 0)) reader.seen.splice(-4);
    const isResumed = ({ type, round = 0 }: ServerEvent) => type === "round-end" && round > 1;
    const late = ids.map((id) => ({ id, reader: new Reader() }));
    await Promise.all([...readers, ...late].map(({ id, reader }) => reader.readUntil(eventsOf(second, id), isResumed)));
    for (const id of ids) await second.request(204, "POST", `/runs/${id}/stop`);
    await Promise.all([...readers, ...late].map(({ id, reader }) => reader.readAll(eventsOf(second, id))));
    for (const { id, reader } of [...readers, ...late]) {
      expectAllRecorded(id, reader);
      expect(reader.seen.filter(({ type }) => type === "run-start")).toHaveLength(2);
    }
    await expectCleanEnd(second, "fastify");
  });

  test("the next process lists a run of one that was killed, and resumes it", async () => {
    const first = await serve("fastify");
    await first.start("struck", ENDLESS);
    const reader = new Reader();
    await reader.readUntil(eventsOf(first, "struck"), isRoundEnd);
    first.kill("SIGKILL");
    await first.ended();
    const second = await serve("fastify");
    expect((await second.describe("struck")).state).toBe("killed");
    await second.request(202, "POST", "/runs/struck/resume");
    await reader.readUntil(eventsOf(second, "struck"), ({ type }) => type === "run-start");
    await second.request(204, "POST", "/runs/struck/stop");
    expect((await second.describe("struck")).state).toBe("interrupted");
    await expectCleanEnd(second, "fastify");
  });
});

test("the Hono service starts a run, gives its events, stops it, refuses a wrong one, and ends on SIGTERM", async () => {
  const service = await serve("hono");
  const start = async (rounds: unknown) => ((await service.request(201, "POST", "/runs", { rounds })) as { id: string }).id;
  const [short, long] = [await start(2), await start(ENDLESS)];
  const reader = new Reader();
  await reader.connect(eventsOf(service, short), 5);
  await reader.connect(eventsOf(service, short));
  expect(reader.seen.at(-1)?.type).toBe("run-end");
  const numbers = reader.seen.map(({ number }) => number);
  expect(numbers).toEqual([...new Set(numbers)].toSorted((a, b) => a - b));
  await new Reader().readUntil(eventsOf(service, long), isRoundEnd);
  expect(await service.request(200, "POST", `/runs/${long}/stop`)).toEqual({ state: "interrupted" });
  expect(await service.request(400, "POST", "/runs", { rounds: "many" })).toMatchObject({ issues: [{ path: "rounds" }] });
  await service.request(404, "GET", "/runs/missing/events");
  await start(ENDLESS);
  await expectCleanEnd(service, "hono");
});

const redis = await execa("redis-server", ["--version"], { reject: false });

describe.skipIf(redis.failed)("with a Redis (Debian: apt-get install redis-server),", () => {
  test("BullMQ's jobs are runs: they report progress, can be cancelled, and a worker that is stopped leaves its run to the next", async () => {
    const home = path.join(folder, "bullmq");
    const socket = path.join(folder, "redis.sock");
    const server = execa("redis-server", ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no"], { cwd: folder });
    onTestFinished(async () => {
      server.kill();
      await server.catch(() => {});
    });
    await eventually(() => expect(existsSync(socket)).toBe(true));
    const run = (script: string, ...args: string[]) => {
      const program = startProgram({ folder: home, script, args, env: { REDIS_URL: socket } });
      onTestFinished(async () => {
        program.kill("SIGKILL");
        await program.ended();
      });
      return program;
    };
    const stopped = { code: 0, signal: null };
    const unwanted = run("client", "submit", "3");
    const [unwantedId] = await unwanted.line(/^run-\w+$/);
    expect(await run("client", "cancel", unwantedId).ended()).toEqual(stopped);
    expect(await unwanted.ended()).toEqual({ code: 1, signal: null });

    const first = run("worker", "--tiny");
    const short = run("client", "submit", "3");
    await short.line(/^\/.*\/runs\/run-\w+$/);
    expect(await short.ended()).toEqual(stopped);
    expect(short.output).toMatch(/^round 3: loss \d/m);

    const long = run("client", "submit", `${ENDLESS}`);
    const [id] = await long.line(/^run-\w+$/);
    await long.line(/^round 2:/);
    first.kill("SIGTERM");
    expect(await first.ended()).toEqual(stopped);
    const events = () => readFileSync(path.join(home, "runs", id, "events.jsonl"), "utf8");
    expect(events()).toContain('"kind":"interrupted"');

    const second = run("worker", "--tiny");
    await eventually(() => expect(events()).toContain('"resumed"'));
    expect(await run("client", "cancel", id).ended()).toEqual(stopped);
    expect(await long.ended()).toEqual({ code: 1, signal: null });
    expect(long.output).toMatch(/^cancelled$/m);
    await expectCleanEnd(second, "bullmq");
  });
});

test("the tests of the vitest example pass", async () => {
  const { stdout } = await execa("npm", ["test"], { cwd: path.join(folder, "vitest"), env: { NO_COLOR: "1" } });
  expect(stdout).toMatch(/Tests\s+4 passed \(4\)/);
});
