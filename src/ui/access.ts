import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { hostname } from "node:os";
import { isIP } from "node:net";

/*
 * Who may ask. The address alone protects little: every user of this machine and every web site that is open in the same browser can
 * reach it. So each request needs a secret that only the printed link has, and names the host that it was meant for: a site whose name
 * was made to resolve to this machine (DNS rebinding) sends its own.
 *
 * A browser sends a cookie to every port of its host. So the page lives in a folder with a random name, and the cookie with it: a
 * server on another port is sent the secret only if the browser is made to ask it for an address in that folder, whose name only this
 * page's address shows. What remains: whoever has seen that address (over a shoulder, in the browser's history) and serves another port
 * of the same host can have the cookie sent to it, and without encryption (`--host`) whoever listens on the way reads both.
 */

export interface Access {
  readonly token: string;
  /** Path of the page's folder, such as `/x7…/`: every address of the page is in it. */
  readonly folder: string;
  /** Why a request is refused; undefined if it may be answered. */
  refusal(request: IncomingMessage, url: URL): Refusal | undefined;
  /** The cookie that keeps the secret once a link was opened. */
  cookie(port: number): string;
}

export interface Refusal {
  readonly status: 401 | 403 | 421;
  readonly reason: string;
}

export function createAccess(boundTo: string): Access {
  const token = randomBytes(24).toString("base64url");
  const folder = `/${randomBytes(12).toString("base64url")}/`;
  const names = new Set(["localhost", boundTo.toLowerCase(), hostname().toLowerCase()]);
  const isToken = (given: string) => timingSafeEqual(digest(given), digest(token));
  return {
    token,
    folder,
    refusal(request, url) {
      const host = hostOf(request.headers.host);
      // An address cannot be made to resolve to another machine; through a forwarded port it may have any number.
      if (host === undefined || !(names.has(host) || isIP(host) > 0)) {
        return { status: 421, reason: "this address is not one of this page; open the link that prelort printed" };
      }
      const { origin } = request.headers;
      const site = request.headers["sec-fetch-site"];
      const isForeign = origin !== undefined && origin !== `http://${request.headers.host}`;
      const isPage = url.pathname === folder && request.method === "GET";
      if (isForeign || (!isPage && site !== undefined && site !== "same-origin" && site !== "none")) {
        return { status: 403, reason: "another site's requests are refused" };
      }
      if (request.method === "POST" && origin === undefined) return { status: 403, reason: "a request without an origin changes nothing" };
      const given = [...cookiesOf(request), ...(isPage ? [url.searchParams.get("token") ?? ""] : [])];
      return given.some(isToken) ? undefined : { status: 401, reason: "open the link that prelort printed: it holds this page's secret" };
    },
    cookie: (port) => `${COOKIE}_${port}=${token}; HttpOnly; SameSite=Strict; Path=${folder}`,
  };
}

const COOKIE = "prelort_ui";

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** The name or address without its port and brackets. */
function hostOf(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::\d+)?$/.exec(header.toLowerCase());
  return match?.[1] ?? match?.[2];
}

function cookiesOf({ headers }: IncomingMessage): readonly string[] {
  const pairs = (headers.cookie ?? "").split(";").map((pair) => pair.trim().split("="));
  return pairs.flatMap(([name, value]) => (name?.startsWith(`${COOKIE}_`) && value !== undefined ? [value] : []));
}
