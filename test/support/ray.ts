import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { expect } from "vitest";
import { parseJson } from "../../src/base/json.ts";
import { eventually } from "./patience.ts";
import { type Host, type Hosts, loopbackHosts } from "./ray-hosts.ts";
import { freePort } from "./roads.ts";

/** Python of an environment with Ray; `npm run test:cluster` makes it. */
const rayPython = process.env["PRELORT_RAY_PYTHON"];

export interface RayOptions {
  readonly hosts?: Hosts;
  /** Whoever connects must have it. */
  readonly token?: string;
}

/** A real Ray cluster whose head takes no workers. */
export interface RayCluster {
  /** Of the Jobs API. */
  readonly url: string;
  readonly hosts: Hosts;
  /** Of this process, where the nodes reach it. */
  readonly address: string;
  addNode(resources?: NodeResources): Promise<RayNode>;
  /** Command lines of all processes that belong to the cluster, by process id. */
  processes(): Map<number, string>;
  /** With the cluster's token, if not with another or none. */
  request(method: string, path: string, body?: unknown, token?: string | null): Promise<RayAnswer>;
  close(): Promise<void>;
}

export interface RayAnswer {
  readonly status: number;
  readonly text: string;
}

export interface NodeResources {
  readonly cpus?: number;
  readonly gpus?: number;
}

export interface RayNode {
  readonly host: Host;
  /** Its processes, all at once. */
  kill(): Promise<void>;
  signal(signal: NodeJS.Signals): void;
}

/** The smallest store that Ray takes; prelort puts nothing into it. */
const OBJECT_STORE_BYTES = 80_000_000;
const MARK = "PRELORT_TEST_CLUSTER";

export async function startRay({ hosts = loopbackHosts, token }: RayOptions = {}): Promise<RayCluster> {
  if (rayPython === undefined) throw new Error("these tests need an environment with Ray: npm run test:cluster");
  const programs = path.dirname(rayPython);
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-ray-"));
  // Ray's sockets lie below it, and their paths must be short.
  const session = path.join(folder, "s");
  mkdirSync(session);
  const mark = randomBytes(8).toString("hex");
  const env = {
    PATH: `${programs}:${process.env["PATH"]}`,
    HOME: folder,
    LANG: "C.UTF-8",
    [MARK]: mark,
    RAY_DISABLE_USAGE_STATS: "1",
    ...(token === undefined ? { RAY_AUTH_MODE: "disabled" } : { RAY_AUTH_MODE: "token", RAY_AUTH_TOKEN: token }),
  };
  const marked = () => processesWith(`${MARK}=${mark}`);
  let started = 0;
  const start = async (words: readonly string[]): Promise<RayNode> => {
    const name = `${mark}-${started}`;
    const host = hosts.host(started++);
    const common = [`--node-ip-address=${host.address}`, `--object-store-memory=${OBJECT_STORE_BYTES}`, "--disable-usage-stats", "--block"];
    const [program = "", ...rest] = host.command(path.join(programs, "ray"), ["start", ...words, ...common], session);
    const child = spawn(program, rest, { env: { ...env, PRELORT_TEST_NODE: name }, stdio: ["ignore", "pipe", "pipe"] });
    await isUp(child);
    const own = () => [...processesWith(`PRELORT_TEST_NODE=${name}`).keys()];
    const node = {
      host,
      signal: (signal: NodeJS.Signals) => own().forEach((pid) => end(pid, signal)),
      async kill() {
        const all = own();
        for (const pid of all) end(pid, "SIGKILL");
        await eventually(() => expect(all.filter(isThere)).toEqual([]));
      },
    };
    return node;
  };
  const [port, dashboard] = [await freePort(), await freePort()];
  const head = hosts.host(0).address;
  const url = `http://${head}:${dashboard}`;
  const cluster: RayCluster = {
    url,
    hosts,
    address: hosts.address,
    processes: marked,
    addNode: ({ cpus = 2, gpus = 0 } = {}) => start([`--address=${head}:${port}`, `--num-cpus=${cpus}`, `--num-gpus=${gpus}`]),
    request: (method, where, body, other = token) => ask(method, url + where, body, other ?? undefined),
    async close() {
      const all = [...marked().keys()];
      for (const pid of all) end(pid, "SIGKILL");
      await eventually(() => expect(all.filter(isThere)).toEqual([]));
      hosts.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    const own = [`--port=${port}`, `--dashboard-host=${head}`, `--dashboard-port=${dashboard}`, `--temp-dir=${session}`];
    await start(["--head", "--num-cpus=0", "--num-gpus=0", ...own]);
    await eventually(async () => expect((await cluster.request("GET", "/api/version")).status).toBe(200));
  } catch (error) {
    await cluster.close();
    throw error;
  }
  return cluster;
}

/** Resolves once `ray start` has said that its node runs; rejects with what it said if it ends. */
function isUp(child: ChildProcess): Promise<void> {
  let said = "";
  return new Promise((resolve, reject) => {
    const hear = (data: Buffer) => {
      said += data.toString();
      if (said.includes("block forever")) resolve();
    };
    child.stdout?.on("data", hear);
    child.stderr?.on("data", hear);
    child.once("error", reject);
    child.once("exit", (code, signal) => reject(new Error(`ray start ended with ${signal ?? code}:\n${said}`)));
  });
}

/**
 * Processes on this machine with this variable, those in namespaces of their own too, and all that come from them: many
 * of Ray's write their title over their environment.
 */
function processesWith(variable: string): Map<number, string> {
  const all = readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? (readProcess(Number(name)) ?? []) : []));
  const found = new Set(all.filter(({ variables }) => variables.includes(variable)).map(({ pid }) => pid));
  for (let size = -1; size !== found.size;) {
    size = found.size;
    for (const { pid, parent } of all) if (found.has(parent)) found.add(pid);
  }
  return new Map(all.filter(({ pid }) => found.has(pid)).map(({ pid, line }) => [pid, line]));
}

/** Undefined if it has ended, or is another user's. */
function readProcess(pid: number) {
  try {
    const [environment = "", line = "", status = ""] = ["environ", "cmdline", "status"].map((name) =>
      readFileSync(`/proc/${pid}/${name}`, "latin1"),
    );
    if (line === "") return undefined; // a zombie, or the kernel's
    const parent = Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1]);
    return { pid, parent, line: line.replaceAll("\0", " "), variables: environment.split("\0") };
  } catch {
    return undefined;
  }
}

function isThere(pid: number): boolean {
  return readProcess(pid) !== undefined;
}

function end(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

function ask(method: string, url: string, body: unknown, token: string | undefined): Promise<RayAnswer> {
  const text = body === undefined ? "" : JSON.stringify(body);
  const headers = { "content-type": "application/json", ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) };
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, headers }, (response) => {
      let answer = "";
      response.on("data", (data: Buffer) => (answer += data.toString()));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text: answer }));
      response.on("error", reject);
    });
    asked.on("error", reject);
    asked.end(text);
  });
}

/** The fields of an answer of the Jobs API. */
export function fieldsOf({ status, text }: RayAnswer): Record<string, unknown> {
  if (status !== 200) throw new Error(`Ray's Jobs API answered ${status}: ${text}`);
  return parseJson(text) as Record<string, unknown>;
}

/** What there is of prelort on a cluster: command lines of processes, and jobs that have not ended. */
export async function prelortOn({ processes, request }: RayCluster): Promise<string[]> {
  const jobs = JSON.parse((await request("GET", "/api/jobs/")).text) as { readonly status: string; readonly submission_id: string }[];
  const unended = jobs.filter(({ status }) => ["PENDING", "RUNNING"].includes(status)).map(({ submission_id }) => submission_id);
  return [...[...processes().values()].filter((line) => line.includes("prelort_worker")), ...unended];
}
