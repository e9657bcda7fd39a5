import type { IncomingMessage, ServerResponse } from "node:http";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { type Asset, INDEX } from "./assets.ts";
import type { Control } from "./control.ts";
import { openEvents } from "./event-source.ts";
import { streamList } from "./list-stream.ts";
import { readTimings } from "../records/timings.ts";
import { readListedRecord } from "./listed-record.ts";
import type { ListPage, NamedConfig, SiteFacts } from "./messages.ts";
import { readOverlay } from "./overlay.ts";
import { readDetail } from "./run-detail.ts";
import type { RunList } from "./run-list.ts";
import type { ListedRun } from "./run-rows.ts";
import type { Stories } from "./run-story.ts";
import { streamRun } from "./run-stream.ts";
import { readLogTail } from "./worker-log.ts";

export interface Site {
  readonly list: RunList;
  readonly stories: Stories;
  readonly assets: ReadonlyMap<string, Asset>;
  /** Undefined if the page may only look. */
  readonly control: Control | undefined;
  readonly pollMs: number;
}

/** Answers a request that was let in. */
export async function answer(site: Site, request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
  const isPost = request.method === "POST";
  if (!isPost && request.method !== "GET") return sendJson(response, 405, { error: "only GET and POST are answered" });
  const asset = site.assets.get(url.pathname === "/" ? INDEX : url.pathname);
  if (asset && !isPost) return sendAsset(response, asset);
  const route = (isPost ? POSTS : GETS).get(url.pathname);
  if (!route) return sendJson(response, 404, { error: "there is no such page" });
  return route(site, url, response, request);
}

type Route = (site: Site, url: URL, response: ServerResponse, request: IncomingMessage) => Promise<void>;
type RunRoute = (run: ListedRun, ...rest: Parameters<Route>) => Promise<void>;

/** Only a listed name leads to a directory. */
function ofRun(route: RunRoute): Route {
  return async (site, url, response, request) => {
    const name = url.searchParams.get("name") ?? "";
    const run = await site.list.look(name);
    if (!run) return sendJson(response, 404, { error: `there is no run ${name} in ${site.list.folder}` });
    return route(run, site, url, response, request);
  };
}

const GETS: ReadonlyMap<string, Route> = new Map<string, Route>([
  [
    "/api/site",
    async ({ list, control }, _url, response) =>
      sendJson(response, 200, { folder: list.folder, canControl: control !== undefined } satisfies SiteFacts),
  ],
  [
    "/api/runs",
    async ({ list }, _url, response) => {
      await list.refresh();
      sendJson(response, 200, list.since() satisfies ListPage);
    },
  ],
  [
    "/api/runs/events",
    async ({ list, pollMs }, url, response, request) => {
      const sink = openEvents(request, response);
      await streamList(sink, list, { from: sink.lastEventId ?? url.searchParams.get("from") ?? "", pollMs });
    },
  ],
  ["/api/run", ofRun(async (run, { stories }, _url, response) => sendJson(response, 200, await readDetail(run, stories)))],
  [
    "/api/run/config",
    ofRun(async ({ summary: { name }, directory }, _site, _url, response) => {
      try {
        const { config = null } = await readListedRecord(directory);
        sendJson(response, 200, { name, config } satisfies NamedConfig);
      } catch (error) {
        sendJson(response, 404, { error: (error as Error).message });
      }
    }),
  ],
  [
    "/api/run/timings",
    ofRun(async ({ directory }, _site, _url, response) =>
      sendJson(response, 200, await readTimings(path.join(directory, "timings.jsonl"))),
    ),
  ],
  [
    "/api/run/events",
    ofRun(async ({ summary: { name }, directory }, { list, stories, pollMs }, url, response, request) => {
      const sink = openEvents(request, response);
      const from = Number(sink.lastEventId ?? url.searchParams.get("from") ?? 0);
      await streamRun(sink, { list, stories, name, directory, from: Number.isFinite(from) ? from : 0, pollMs });
    }),
  ],
  [
    "/api/run/log",
    ofRun(async ({ directory }, _site, url, response) => {
      const worker = url.searchParams.get("worker") ?? "";
      const tail = await readLogTail(directory, worker);
      sendJson(response, tail ? 200 : 404, tail ?? { error: `the run has no log of worker ${worker}` });
    }),
  ],
  [
    "/api/overlay",
    async ({ list }, url, response) => {
      const points = Math.min(2000, Math.max(2, Number(url.searchParams.get("points")) || 200));
      const names = url.searchParams.getAll("name").slice(0, MAX_OVERLAY);
      const runs = names.flatMap((name) => {
        const directory = list.directory(name);
        return directory === undefined ? [] : [{ name, directory }];
      });
      const read = [];
      for (const { name, directory } of runs) read.push(await readOverlay(directory, name, points));
      sendJson(response, 200, read);
    },
  ],
]);

/** Runs of one answer; the page asks for more in several. */
const MAX_OVERLAY = 20;

const POSTS: ReadonlyMap<string, Route> = new Map<string, Route>([
  ["/api/run/stop", ofRun((run, site, _url, response) => act(run, site, response, "stop"))],
  ["/api/run/resume", ofRun((run, site, _url, response) => act(run, site, response, "resume"))],
]);

async function act({ summary, directory }: ListedRun, { control }: Site, response: ServerResponse, what: "stop" | "resume"): Promise<void> {
  if (!control) return sendJson(response, 403, { error: "this page may only look: start it with prelort ui --allow-control" });
  const problem = await control[what](summary, directory);
  return sendJson(response, problem === undefined ? 200 : 409, problem === undefined ? {} : { error: problem });
}

async function sendAsset(response: ServerResponse, { type, source }: Asset): Promise<void> {
  const body = "text" in source ? source.text : await readFile(source.file);
  response.writeHead(200, { "content-type": type }).end(body);
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json; charset=utf-8" }).end(JSON.stringify(value));
}
