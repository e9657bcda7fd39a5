import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

/** A job as the fake server knows it. A test, or the driver that it plays, changes it. */
export interface FakeJob {
  readonly id: string;
  readonly entrypoint: string;
  readonly runtimeEnv: Readonly<Record<string, unknown>>;
  status: "PENDING" | "RUNNING" | "STOPPED" | "SUCCEEDED" | "FAILED";
  message: string;
  log: string;
  /** How often it was asked to stop. */
  stops: number;
}

/** How the server may misbehave. All may be changed at any time. */
export interface Faults {
  /** Requests without it are refused. */
  token?: string;
  /** Answers that replace the right one: by `GET /api/version` or a part of it, such as `/logs`. */
  answers: Record<string, { readonly status: number; readonly body: string }>;
  /** Submits are carried out, and answered with this status. */
  submitStatus?: number;
  /** Submits are carried out and never answered. */
  submitHangs?: boolean;
  /** Jobs are unknown. */
  jobsVanish?: boolean;
  /** The connection ends in the middle of each answer. */
  breaksOff?: boolean;
}

export interface FakeJobsServer {
  readonly address: string;
  readonly jobs: FakeJob[];
  readonly packages: Map<string, Buffer>;
  /** `GET /api/version` and so on, in order. */
  readonly requests: string[];
  readonly faults: Faults;
  close(): Promise<void>;
}

/** Ray's Jobs API as Ray 2.60 serves it, with its known faults. `play` is called for each new job. */
export async function fakeJobsServer(play: (job: FakeJob) => void = () => {}): Promise<FakeJobsServer> {
  const [jobs, packages, requests, faults]: [FakeJob[], Map<string, Buffer>, string[], Faults] = [[], new Map(), [], { answers: {} }];

  const answer = async (request: IncomingMessage): Promise<{ readonly status: number; readonly body: string } | undefined> => {
    const body = Buffer.concat(await request.toArray());
    const asked = `${request.method} ${request.url}`;
    requests.push(asked);
    // As Ray does: fetch sends this header, as browsers do.
    if (request.headers["sec-fetch-mode"] !== undefined) return { status: 405, body: "method not allowed for browser traffic" };
    if (faults.token !== undefined && request.headers.authorization !== `Bearer ${faults.token}`)
      return { status: 401, body: "Unauthorized: Missing authentication token" };
    const replaced = Object.entries(faults.answers).find(([part]) => asked.includes(part));
    if (replaced) return replaced[1];
    if (asked === "GET /api/version") return json({ version: "4", ray_version: "2.60.0", ray_commit: "f00", session_name: "session" });
    const name = /^\/api\/packages\/gcs\/(.+)$/.exec(request.url ?? "")?.[1];
    if (name !== undefined && request.method === "PUT") packages.set(name, body);
    if (name !== undefined) return packages.has(name) ? json({}) : { status: 404, body: `Package ${name} does not exist` };
    if (asked === "POST /api/jobs/") return submit(JSON.parse(body.toString("utf8")));
    return aboutJob(asked);
  };

  const submit = (content: { submission_id: string; entrypoint: string; runtime_env: Record<string, unknown> }) => {
    const { submission_id: id, entrypoint, runtime_env: runtimeEnv } = content;
    if (jobs.some((job) => job.id === id)) return { status: 500, body: `ValueError: Job with submission_id ${id} already exists.` };
    const job: FakeJob = { id, entrypoint, runtimeEnv, status: "PENDING", message: "Job has not started yet.", log: "", stops: 0 };
    jobs.push(job);
    play(job);
    if (faults.submitHangs) return undefined;
    if (faults.submitStatus !== undefined) return { status: faults.submitStatus, body: "Traceback (most recent call last)" };
    return json({ job_id: id, submission_id: id });
  };

  const aboutJob = (asked: string) => {
    const [, method, id, part] = /^(\w+) \/api\/jobs\/([^/]+)\/?(\w*)$/.exec(asked) ?? [];
    const job = jobs.find((each) => each.id === id);
    if (!job || faults.jobsVanish) return { status: 404, body: `Job ${id} does not exist` };
    if (method === "POST" && part === "stop") {
      job.stops++;
      // Whatever it answers: https://github.com/ray-project/ray/issues/58353.
      if (job.status === "RUNNING") job.status = "STOPPED";
      return json({ stopped: true });
    }
    if (part === "logs") return json({ logs: job.log });
    return json({ type: "SUBMISSION", submission_id: job.id, status: job.status, message: job.message, entrypoint: job.entrypoint });
  };

  const respond = async (request: IncomingMessage, response: ServerResponse) => {
    const given = await answer(request);
    if (!given) return;
    if (!faults.breaksOff) return void response.writeHead(given.status, { "content-type": "application/json" }).end(given.body);
    response.writeHead(given.status, { "content-length": given.body.length + 10 });
    response.write(given.body.slice(0, 5), () => response.destroy());
  };
  const server = createServer((request, response) => void respond(request, response).catch(() => response.destroy()));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  onTestFinished(close);
  return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, jobs, packages, requests, faults, close };
}

function json(value: unknown) {
  return { status: 200, body: JSON.stringify(value) };
}
