import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { EnvironmentError } from "../errors.ts";
import { createAccess } from "./access.ts";
import { findAssets } from "./assets.ts";
import { createControl } from "./control.ts";
import { answer, sendJson, type Site } from "./routes.ts";
import { createRunList } from "./run-list.ts";
import { createStories } from "./run-story.ts";

export interface UiOptions {
  /** Folder of runs, or a run's own. */
  readonly folder: string;
  /** Name or address to listen on: `127.0.0.1` by default, which only this machine reaches. */
  readonly host?: string;
  /** A free one by default. */
  readonly port?: number;
  /** Whether the page may stop and resume runs. */
  readonly allowControl?: boolean;
  /** How often files are looked at while a page is open; a second by default. */
  readonly pollMs?: number;
}

export interface Ui {
  /** The page's address with its secret; with a run's name, of that run. */
  link(run?: string): string;
  /** Ends all connections, and the runs that were resumed from the page. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * Serves the page that shows a folder's runs. It only reads their directories, and nothing is sent anywhere else. Throws an
 * EnvironmentError if the port is taken or the host is not this machine's.
 */
export async function serveUi({ folder, host = "127.0.0.1", port = 0, allowControl = false, pollMs = 1000 }: UiOptions): Promise<Ui> {
  const access = createAccess(host);
  const control = allowControl ? createControl() : undefined;
  const site: Site = { list: createRunList(folder), stories: createStories(), assets: findAssets(), control, pollMs };
  const server = createServer((request, response) => {
    for (const [name, value] of HEADERS) response.setHeader(name, value);
    const url = parseUrl(request.url);
    const refusal = url ? access.refusal(request, url) : { status: 400, reason: "this is no address" };
    if (!url || refusal) return refuse(response, refusal ?? { status: 400, reason: "" });
    if (url.searchParams.has("token")) response.setHeader("set-cookie", access.cookie((server.address() as AddressInfo).port));
    answer(site, request, response, within(access.folder, url)).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else sendJson(response, 500, { error: (error as Error).message });
    });
  });
  await listen(server, host, port);
  const address = server.address() as AddressInfo;
  const shown = host === "0.0.0.0" || host === "::" ? "localhost" : host.includes(":") ? `[${host}]` : host;
  let closing: Promise<void> | undefined;
  return {
    link: (run) =>
      `http://${shown}:${address.port}${access.folder}?token=${access.token}${run === undefined ? "" : `#/run/${encodeURIComponent(run)}`}`,
    close: () =>
      (closing ??= (async () => {
        const closed = new Promise((resolve) => server.close(resolve));
        server.closeAllConnections();
        await Promise.all([closed, control?.close()]);
      })()),
  };
}

/** The page loads nothing but its own files, and no other page can show it in a frame. */
const HEADERS: readonly (readonly [string, string])[] = [
  [
    "content-security-policy",
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  ],
  ["x-content-type-options", "nosniff"],
  ["referrer-policy", "no-referrer"],
  ["cache-control", "no-store"],
  ["cross-origin-resource-policy", "same-origin"],
  ["cross-origin-opener-policy", "same-origin"],
];

function parseUrl(target: string | undefined): URL | undefined {
  return target?.startsWith("/") && URL.canParse(target, "http://page") ? new URL(target, "http://page") : undefined;
}

/** The address as seen from the page's folder; outside of it there is nothing. */
function within(folder: string, url: URL): URL {
  const inside = new URL(url);
  inside.pathname = url.pathname.startsWith(folder) ? url.pathname.slice(folder.length - 1) : "/nothing";
  return inside;
}

function refuse(response: ServerResponse, { status, reason }: { readonly status: number; readonly reason: string }): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", connection: "close" }).end(`prelort: ${reason}\n`);
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port }, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const [problem, remedy] =
      code === "EADDRINUSE"
        ? [`port ${port} of ${host} is taken`, "choose another port (--port), or leave --port out for a free one"]
        : code === "EACCES"
          ? [`port ${port} of ${host} may not be used: ${message}`, "choose a port above 1023 (--port)"]
          : [`${host} cannot be listened on: ${message}`, "give a name or address of this machine (--host)"];
    throw new EnvironmentError(problem, remedy, { cause });
  }
}
