import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, request, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { loadRun } from "../../../src/server/loaded-run.ts";
import type { ListChange, ListPage, LiveEvent, OverlayRun, RunDetail, SiteFacts } from "../../../src/ui/messages.ts";
import { serveUi, type Ui } from "../../../src/ui/serve-ui.ts";
import { line, trainTiny } from "../../support/ui-runs.ts";

const folder = mkdtempSync(path.join(tmpdir(), "prelort-test-"));
const runs = path.join(folder, "runs");
let ui: Ui;
let port: number;
let token: string;
/** The page's folder, without its last slash. */
let base: string;
beforeAll(async () => {
  await trainTiny({ runsDir: runs, name: "first", rounds: 3 });
  ui = await serveUi({ folder: runs, pollMs: 20 });
  const link = new URL(ui.link());
  port = Number(link.port);
  token = link.searchParams.get("token") ?? "";
  base = link.pathname.slice(0, -1);
});
afterAll(async () => {
  await ui.close();
  rmSync(folder, { recursive: true });
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** By hand, since fetch does not let a test choose Host, Origin or an unresolved path. */
function ask(
  target: string,
  { headers = {}, method = "GET" }: { headers?: Record<string, string>; method?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request(
      { host: "127.0.0.1", port, path: `${base}${target}`, method, headers: { cookie: cookie(), ...headers } },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (piece: string) => (text += piece));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
        response.on("error", reject);
      },
    );
    call.on("error", reject).end();
  });
}

function cookie(): string {
  return `prelort_ui_${port}=${token}`;
}

async function json<T>(target: string): Promise<T> {
  const { status, text } = await ask(target);
  expect(status, text).toBe(200);
  return JSON.parse(text) as T;
}

interface Message {
  readonly id?: string;
  readonly event: string;
  readonly data: unknown;
}

/** Messages of an event stream, until `isDone`. */
function listen(target: string, isDone: (messages: readonly Message[]) => boolean, lastEventId?: string): Promise<readonly Message[]> {
  return new Promise((resolve, reject) => {
    const headers = { cookie: cookie(), ...(lastEventId !== undefined && { "last-event-id": lastEventId }) };
    const call = request({ host: "127.0.0.1", port, path: `${base}${target}`, headers }, (response) => {
      let rest = "";
      const messages: Message[] = [];
      response.setEncoding("utf8").on("data", (piece: string) => {
        const blocks = (rest + piece).split("\n\n");
        rest = blocks.pop() ?? "";
        for (const block of blocks) {
          const fields = new Map(
            block.split("\n").map((field) => [field.slice(0, field.indexOf(":")), field.slice(field.indexOf(":") + 2)]),
          );
          const data = fields.get("data");
          if (data === undefined) continue;
          const id = fields.get("id");
          messages.push({ event: fields.get("event") ?? "message", data: JSON.parse(data), ...(id !== undefined && { id }) });
        }
        if (!isDone(messages)) return;
        call.destroy();
        resolve(messages);
      });
    });
    call.on("error", reject).end();
  });
}

test("without the link's secret nothing is answered, and with it a cookie takes its place", async () => {
  for (const target of ["/", "/api/runs", "/app/ui/page/main.js", "/?token=wrong", `/api/runs?token=${token}`]) {
    expect((await ask(target, { headers: { cookie: "" } })).status, target).toBe(401);
  }
  const { status, headers, text } = await ask(`/?token=${token}`, { headers: { cookie: "" } });
  expect([status, text.includes("main.js")]).toEqual([200, true]);
  expect(headers["set-cookie"]).toEqual([`${cookie()}; HttpOnly; SameSite=Strict; Path=${base}/`]);
  expect((await ask("/api/runs", { headers: { cookie: `prelort_ui_1=${"x".repeat(32)}; ${cookie()}` } })).status).toBe(200);
});

test("the cookie is for the page's own folder, which another server on this host does not know, and nothing is outside of it", async () => {
  expect(base).toMatch(/^\/[\w-]{16}$/);
  const whole = base;
  base = "";
  onTestFinished(() => void (base = whole));
  for (const target of ["/", "/api/runs", "/app/ui/page/main.js", whole]) expect((await ask(target)).status, target).toBe(404);
  expect((await ask(`/?token=${token}`, { headers: { cookie: "" } })).status).toBe(401);
});

test("a host's name that is not this page's is refused, as when a site makes its own name resolve to this machine", async () => {
  for (const host of ["evil.example", `evil.example:${port}`, "localhost.evil.example"]) {
    expect((await ask("/api/runs", { headers: { host } })).status, host).toBe(421);
  }
  for (const host of [`localhost:${port}`, "127.0.0.1:8080", `[::1]:${port}`]) {
    expect((await ask("/api/runs", { headers: { host } })).status, host).toBe(200);
  }
});

test("requests of other sites are refused, even with the cookie", async () => {
  for (const origin of ["http://evil.example", `http://127.0.0.1:${port + 1}`, "null", `https://127.0.0.1:${port}`]) {
    expect((await ask("/api/runs", { headers: { origin } })).status, origin).toBe(403);
  }
  expect((await ask("/api/runs", { headers: { "sec-fetch-site": "cross-site" } })).status).toBe(403);
  expect((await ask("/api/runs", { headers: { origin: `http://127.0.0.1:${port}`, "sec-fetch-site": "same-origin" } })).status).toBe(200);
  // A link to the page on another site is a person's choice.
  expect((await ask("/", { headers: { "sec-fetch-site": "cross-site" } })).status).toBe(200);
});

test("every answer forbids foreign and inline scripts, frames and guesses of its type", async () => {
  for (const target of ["/", "/api/runs", "/nothing"]) {
    const { headers } = await ask(target);
    expect(headers["content-security-policy"]).toMatch(/default-src 'none'; script-src 'self';.*frame-ancestors 'none'/);
    expect(headers["content-security-policy"]).not.toContain("unsafe");
    expect(headers).toMatchObject({ "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store" });
  }
});

test("the page names all of its modules, so that a browser asks for them at once", async () => {
  const { text } = await ask("/");
  const named = [...text.matchAll(/<link rel="modulepreload" href="([^"]+)"/g)].map(([, href]) => `/${href}`);
  const imported = new Set(["/app/ui/page/main.js"]);
  for (const address of imported) {
    const { status, text: source } = await ask(address);
    expect(status, address).toBe(200);
    for (const [, found = ""] of source.matchAll(/from "(\.[^"]+)"/g)) imported.add(path.posix.join(path.posix.dirname(address), found));
  }
  expect(imported.size).toBeGreaterThan(25);
  expect(named.toSorted()).toEqual(expect.arrayContaining([...imported]));
});

test("no address leads to a file that is not the page's own", async () => {
  writeFileSync(path.join(folder, "secret.json"), "{}");
  const targets = [
    "/../../package.json",
    "/app/../../package.json",
    "/app/ui/page/../../../package.json",
    "/app/%2e%2e/%2e%2e/package.json",
    "/app/ui/page/..%2f..%2fcli%2fmain.js",
    "/app/ui/serve-ui.js",
    "/app/cli/main.js",
    "//etc/passwd",
    "/runs/first/run.json",
    "/first/run.json",
  ];
  for (const target of targets) expect((await ask(target)).status, target).toBe(404);
  for (const name of ["..", "../runs/first", "first/../../runs/first", "/etc", ".", "", "first/", "first%00"]) {
    for (const what of ["run", "run/log", "run/events"]) {
      expect((await ask(`/api/${what}?worker=w0&name=${encodeURIComponent(name)}`)).status, name).toBe(404);
    }
  }
  expect(await json<OverlayRun[]>(`/api/overlay?name=${encodeURIComponent("../runs/first")}&name=first`)).toMatchObject([
    { name: "first" },
  ]);
});

test("a worker's log is read by its plain name only, no link in a run is followed, and escape sequences are shown as text", async () => {
  const logs = path.join(runs, "first", "workers");
  mkdirSync(logs, { recursive: true });
  writeFileSync(path.join(logs, "w7.log"), "line\n\u001b[31mred\u001b[0m\u202e <b>\n");
  writeFileSync(path.join(folder, "outside.log"), "secret\n");
  symlinkSync(path.join(folder, "outside.log"), path.join(logs, "w8.log"));
  const log = (worker: string) => ask(`/api/run/log?name=first&worker=${encodeURIComponent(worker)}`);
  expect(JSON.parse((await log("w7")).text)).toEqual({ text: "line\n\\u001b[31mred\\u001b[0m\\u202e <b>\n", isWhole: true });
  for (const worker of ["w8", "../../../outside", "../run.json", "w9", "", "."]) expect((await log(worker)).status, worker).toBe(404);
  symlinkSync(folder, path.join(folder, "elsewhere"));
  mkdirSync(path.join(runs, "linked"));
  writeFileSync(path.join(runs, "linked", "run.json"), "{}");
  symlinkSync(folder, path.join(runs, "linked", "workers"));
  onTestFinished(() => rmSync(path.join(runs, "linked"), { recursive: true }));
  expect((await ask("/api/run/log?name=linked&worker=outside")).status).toBe(404);
});

test("folders that are damaged, half written, of earlier versions or no runs are listed as such, beside the others", async () => {
  const make = (name: string, files: Record<string, string>) => {
    mkdirSync(path.join(runs, name), { recursive: true });
    for (const [file, text] of Object.entries(files)) writeFileSync(path.join(runs, name, file), text);
    onTestFinished(() => rmSync(path.join(runs, name), { recursive: true }));
  };
  const read = (file: string) => readFileSync(path.join(runs, "first", file), "utf8");
  const metrics = read("metrics.jsonl");
  make("damaged-record", { "run.json": '{"name": ' });
  make("of-tomorrow", { "run.json": '{"config": {"rounds": "many"}}' });
  make("no-run", { "notes.txt": "" });
  make("half-written", { "run.json": read("run.json"), "metrics.jsonl": `${metrics}{"round": 4, "by_ti` });
  make("damaged-lines", { "run.json": read("run.json"), "metrics.jsonl": `no JSON\n${metrics}{"round": "x"}\n\u0000\n` });
  make("earlier", { "run.json": read("run.json"), "metrics.jsonl": metrics, "journal.jsonl": read("journal.jsonl") });
  make("<img src=x onerror=alert(1)>", {});
  writeFileSync(path.join(runs, "a-file"), "");
  onTestFinished(() => rmSync(path.join(runs, "a-file")));
  const { changed } = await json<ListPage>("/api/runs");
  const rows = new Map(changed.map((row) => [row.name, row]));
  expect(await json<SiteFacts>("/api/site")).toEqual({ folder: runs, canControl: false });
  expect([...rows.keys()].toSorted()).toEqual(
    [
      "<img src=x onerror=alert(1)>",
      "damaged-lines",
      "damaged-record",
      "earlier",
      "first",
      "half-written",
      "no-run",
      "of-tomorrow",
    ].toSorted(),
  );
  expect(rows.get("first")).toMatchObject({
    state: "ended",
    problem: null,
    rounds: { done: 3, of: 3 },
    quality: { measure: "accuracy", round: 3 },
  });
  expect(rows.get("damaged-record")).toMatchObject({ state: "damaged", problem: expect.stringContaining("run.json is damaged") });
  expect(rows.get("of-tomorrow")).toMatchObject({ state: "damaged", problem: expect.stringContaining("run.json") });
  expect(rows.get("no-run")).toMatchObject({ state: "no run", quality: null, rounds: null });
  for (const name of ["half-written", "damaged-lines"])
    expect(rows.get(name), name).toMatchObject({ rounds: { done: 3 }, quality: { round: 3 } });
  expect(rows.get("earlier")).toMatchObject({ state: "ended", quality: { round: 3 } });
  for (const name of rows.keys()) await json<RunDetail>(`/api/run?name=${encodeURIComponent(name)}`);
  expect((await json<RunDetail>("/api/run?name=damaged-lines")).problems).toEqual([
    expect.stringMatching(/metrics\.jsonl:1 /),
    expect.stringMatching(/:6 /),
    expect.stringMatching(/:7 /),
  ]);
});

test("a comparison's folder stands for its runs, each under the folder's name and its own", async () => {
  const comparison = path.join(runs, "compare");
  for (const name of ["a.seed-1", "b.seed-1"]) {
    mkdirSync(path.join(comparison, name), { recursive: true });
    for (const file of ["run.json", "metrics.jsonl", "journal.jsonl"])
      writeFileSync(path.join(comparison, name, file), readFileSync(path.join(runs, "first", file)));
  }
  writeFileSync(path.join(comparison, "compare.md"), "");
  onTestFinished(() => rmSync(comparison, { recursive: true }));
  const { changed } = await json<ListPage>("/api/runs");
  const states = new Map(changed.map(({ name, state }) => [name, state]));
  expect([states.get("compare/a.seed-1"), states.get("compare/b.seed-1"), states.get("compare")]).toEqual(["ended", "ended", undefined]);
  expect((await json<RunDetail>(`/api/run?name=${encodeURIComponent("compare/b.seed-1")}`)).summary).toMatchObject({ rounds: { done: 3 } });
  for (const name of ["compare", "compare/../first", "compare/c"]) {
    expect((await ask(`/api/run?name=${encodeURIComponent(name)}`)).status, name).toBe(404);
  }
});

test("the best and the worst tier are those of the last evaluated round", async () => {
  const { changed } = await json<ListPage>("/api/runs");
  const lines = readFileSync(path.join(runs, "first", "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n");
  const tiers = (JSON.parse(lines.at(-1) ?? "") as { by_tier: { r: number; accuracy: number }[] }).by_tier;
  const accuracies = tiers.map(({ accuracy }) => accuracy);
  const quality = changed.find(({ name }) => name === "first")?.quality;
  expect([quality?.best.value, quality?.worst.value]).toEqual([Math.max(...accuracies), Math.min(...accuracies)]);
});

test("a run's page has each tier's quality with its interval, and the fits of each worker", async () => {
  const { rows, tiers, timeline, lastEvent, failures } = await json<RunDetail>("/api/run?name=first");
  expect([rows.map(({ round }) => round), tiers, failures]).toEqual([[0, 1, 2, 3], [1, 2, 4, 8], []]);
  for (const [value, low, high] of rows.at(-1)?.quality ?? [])
    expect((low ?? 2) <= (value ?? -1) && (value ?? 2) <= (high ?? -1)).toBe(true);
  expect(timeline.spans.filter(({ outcome }) => outcome === "trained")).toHaveLength(3 * 8);
  expect(lastEvent).toBeGreaterThan(24);
});

test("a run's page has the best round as the run judged it, why it stopped, and the samples before training and of the latest round", async () => {
  const options = { evaluate: { best: { metric: "accuracy", at: 4 } }, stopWhen: { patience: 1, minDelta: 1 } } as const;
  await trainTiny({ runsDir: runs, name: "chosen", rounds: 9, ...options });
  const directory = path.join(runs, "chosen");
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const { best, stopped } = await loadRun(directory);
  expect(stopped).toEqual({ round: 2, reason: "patience" });
  const file = path.join(directory, "metrics.jsonl");
  const samples = (text: string) => [{ prompt: "p", reference: "q", answers: [{ r: 1, text }] }];
  const told = readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((each, round) => JSON.stringify({ ...(JSON.parse(each) as object), samples: samples(`of ${round}`) }));
  writeFileSync(file, `${told.join("\n")}\n`);
  const detail = await json<RunDetail>("/api/run?name=chosen");
  expect(detail).toMatchObject({ best: { ...best }, stopped });
  expect(detail.told).toEqual([
    { round: 0, samples: samples("of 0") },
    { round: 2, samples: samples("of 2") },
  ]);
  const isEnd = (messages: readonly Message[]) => messages.some(({ data }) => (data as { type?: string } | null)?.type === "run-end");
  const events = (await listen("/api/run/events?name=chosen&from=0", isEnd)).map(({ data }) => data as LiveEvent);
  expect(events.filter(({ type }) => type === "round-end").at(-1)).toMatchObject({ best: { ...best }, told: { round: 2, samples: [] } });
  expect(events.find(({ type }) => type === "early-stop")).toMatchObject({ stopped });
  expect(await json<RunDetail>("/api/run?name=first")).toMatchObject({ best: null, stopped: null, told: [] });
});

test("a run's page has the memory of its workers as it is recorded, also by versions that recorded none of fits", async () => {
  const directory = path.join(runs, "with-memory");
  mkdirSync(directory);
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const device = { type: "cuda", name: "NVIDIA H200", capability: "9.0", memoryBytes: 150e9 };
  const ready = (workerId: string) => ({ type: "worker-ready", workerId, pid: 1, host: "gpu-2", versions: {}, variables: {}, device });
  const of = { type: "client-fit", clientId: "c1", r: 1, workerId: "w0", loss: null, seconds: 1 };
  const fit = (round: number, more: object) => ({ ...of, round, ...more });
  const events = [ready("w0"), ready("w1"), fit(1, { peakMemoryBytes: 2e9 }), fit(2, { peakMemoryBytes: 1e9 }), fit(3, {})];
  writeFileSync(path.join(directory, "run.json"), readFileSync(path.join(runs, "first", "run.json")));
  writeFileSync(path.join(directory, "events.jsonl"), events.map((event, index) => line(index + 1, index, event)).join(""));
  const about = { host: "gpu-2", device: "NVIDIA H200 (cuda)", deviceBytes: 150e9 };
  expect((await json<RunDetail>("/api/run?name=with-memory")).memory).toEqual([
    { id: "w0", ...about, last: { bytes: 1e9, round: 2 }, peak: { bytes: 2e9, round: 1 } },
    { id: "w1", ...about, last: null, peak: null },
  ]);
});

test("a stream of events continues after the last one that the browser got", async () => {
  const isEnd = (messages: readonly Message[]) => messages.some(({ data }) => (data as { type?: string } | null)?.type === "run-end");
  const all = (await listen("/api/run/events?name=first&from=0", isEnd)).filter(({ id }) => id !== undefined);
  const ids = all.map(({ id }) => Number(id));
  expect(ids).toEqual(ids.toSorted((a, b) => a - b));
  expect(all.filter(({ data }) => (data as { type: string }).type === "round-end")).toHaveLength(4);
  const middle = all[Math.floor(all.length / 2)]?.id ?? "";
  const rest = (await listen("/api/run/events?name=first&from=0", isEnd, middle)).filter(({ id }) => id !== undefined);
  expect(rest).toEqual(all.filter(({ id }) => Number(id) > Number(middle)));
});

test("a stream that continues where the page was read to begins with its status, and sends no event again", async () => {
  const { lastEvent } = await json<RunDetail>("/api/run?name=first");
  const isOver = (got: readonly Message[]) => got.length >= 2;
  const messages = await listen(`/api/run/events?name=first&from=${lastEvent}`, isOver);
  expect(messages.map(({ event, id }) => [event, id])).toEqual([
    ["status", undefined],
    ["status", undefined],
  ]);
});

test("a page that comes back with the last event of a run that was replaced is told to read the run again", async () => {
  const isEnd = (messages: readonly Message[]) => messages.some(({ data }) => (data as { type?: string } | null)?.type === "run-end");
  const [first] = (await listen("/api/run/events?name=first&from=0", isEnd)).filter(({ id }) => id !== undefined);
  const before = `${Number(first?.id) - 1000}`;
  const events = async (lastEventId?: string) =>
    (await listen("/api/run/events?name=first&from=0", isEnd, lastEventId)).map(({ event }) => event);
  expect(await events(before)).toContain("changed");
  expect(await events(first?.id)).not.toContain("changed");
  expect(await events()).not.toContain("changed");
});

test("events that are recorded while a page listens reach it, and a torn line only once it is whole", async () => {
  const directory = path.join(runs, "growing");
  mkdirSync(directory);
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const log = path.join(directory, "events.jsonl");
  const fit = (number: number) =>
    line(number, 1000 * number, { type: "client-fit", round: 1, clientId: `c${number}`, workerId: "w0", seconds: 1, r: 1, loss: null });
  writeFileSync(path.join(directory, "run.json"), readFileSync(path.join(runs, "first", "run.json")));
  writeFileSync(log, `${fit(1)}${fit(2).slice(0, 30)}`);
  let step = 0;
  const messages = await listen("/api/run/events?name=growing&from=0", (got) => {
    const ids = got.flatMap(({ id }) => id ?? []);
    if (step === 0 && ids.length === 1 && got.some(({ event }) => event === "status")) {
      step = 1;
      appendFileSync(log, `${fit(2).slice(30)}garbage\n${fit(7)}`);
    }
    return ids.includes("7");
  });
  expect(messages.flatMap(({ id }) => id ?? [])).toEqual(["1", "2", "7"]);
});

test("the list's stream names what changed and what is gone, and continues after the version that the browser has", async () => {
  const directory = path.join(runs, "comes-and-goes");
  const { version } = await json<ListPage>("/api/runs");
  let step = 0;
  const changes = (messages: readonly Message[]) => messages.map(({ data }) => data as ListChange);
  const names = (messages: readonly Message[]) => changes(messages).flatMap(({ changed }) => changed.map(({ name }) => name));
  setImmediate(() => mkdirSync(directory));
  const messages = await listen(`/api/runs/events?from=${version}`, (got) => {
    if (step === 0 && names(got).includes("comes-and-goes")) {
      step = 1;
      rmSync(directory, { recursive: true });
    }
    return changes(got).some(({ removed }) => removed.includes("comes-and-goes"));
  });
  expect(names(messages)).toEqual(["comes-and-goes"]);
  const [again] = await listen("/api/runs/events", (got) => got.length > 0, messages[0]?.id);
  expect(again?.data).toEqual({ changed: [], removed: ["comes-and-goes"] });
  const [fresh] = await listen("/api/runs/events", (got) => got.length > 0, "another-0");
  expect((fresh as { data: ListChange }).data.changed.map(({ name }) => name)).toContain("first");
});

test("many rounds are thinned evenly for a comparison, with the first and the last", async () => {
  const directory = path.join(runs, "long");
  mkdirSync(directory);
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const tier = (r: number, loss: number) => ({ r, loss, perplexity: null, accuracy: null });
  const rows = Array.from({ length: 1001 }, (_, round) => ({
    round,
    by_tier: round % 2 ? [] : [tier(1, round), tier(2, -round)],
    merged: null,
  }));
  writeFileSync(path.join(directory, "metrics.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  await json("/api/runs");
  const [run] = await json<OverlayRun[]>("/api/overlay?name=long&points=11");
  expect(run).toMatchObject({ measure: "loss", tiers: [1, 2], rounds: [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000] });
  expect(run?.values[1]?.at(-1)).toBe(-1000);
});

test("a page that may only look stops no run, and another site cannot ask for it", async () => {
  const own = { origin: `http://127.0.0.1:${port}` };
  expect((await ask("/api/run/stop?name=first", { method: "POST", headers: own })).status).toBe(403);
  expect((await ask("/api/run/stop?name=first", { method: "POST" })).status).toBe(403);
  expect((await ask("/api/run/stop?name=first", { method: "POST", headers: { origin: "http://evil.example" } })).status).toBe(403);
  expect((await ask("/api/run/stop?name=first")).status).toBe(404);
  expect((await ask("/api/runs", { method: "DELETE" })).status).toBe(405);
});

test("a port that is taken is named, with what to do", async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void other.close());
  const taken = (other.address() as AddressInfo).port;
  await expect(serveUi({ folder: runs, port: taken })).rejects.toMatchObject({
    kind: "environment",
    message: expect.stringMatching(`${taken}.*\n.*--port`),
  });
});

test("a folder that is a run's own is a list of that run", async () => {
  const single = await serveUi({ folder: path.join(runs, "first") });
  onTestFinished(() => single.close());
  const link = new URL(single.link("first"));
  expect(link.hash).toBe("#/run/first");
  const response = await fetch(new URL("api/runs", link), {
    headers: { cookie: `prelort_ui_${link.port}=${link.searchParams.get("token")}` },
  });
  expect(((await response.json()) as ListPage).changed.map(({ name }) => name)).toEqual(["first"]);
});
