import { z } from "zod";
import { parseJson } from "../base/json.ts";
import { askRay, type RayAddress, type RayAnswer, type RayRequest } from "./jobs-request.ts";
import { RayError } from "./ray-error.ts";

/** What Ray's Jobs API tells of a job. */
export interface JobStatus {
  readonly status: string;
  readonly message: string;
  /** It will not run any more. */
  readonly hasEnded: boolean;
}

/** Ray's Jobs API, by its REST interface. Everything rejects with a RayError. */
export interface JobsApi {
  readonly address: string;
  /** The version of Ray. */
  version(): Promise<string>;
  /** Uploads a package unless it is there. */
  upload(name: string, zip: () => Uint8Array): Promise<void>;
  /** Submits a job. A job of that id that is there already counts as submitted. */
  submit(job: Submission, limits?: Limits): Promise<void>;
  /** Undefined if there is no such job. */
  status(id: string, limits?: Limits): Promise<JobStatus | undefined>;
  /** All that its driver has printed. */
  log(id: string, limits?: Limits): Promise<string>;
  /** Asks for its end. Does nothing to a job that is PENDING, whatever Ray answers: https://github.com/ray-project/ray/issues/58353. */
  stop(id: string, limits?: Limits): Promise<void>;
}

type Limits = Partial<Pick<RayRequest, "timeoutMs" | "signal">>;

export interface Submission {
  readonly id: string;
  /** A shell command. */
  readonly entrypoint: string;
  readonly runtimeEnv: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, string>>;
}

const TIMEOUT_MS = 20_000;
/** A submit that is broken off leaves a job PENDING for ever: https://github.com/ray-project/ray/issues/62766. */
const SUBMIT_TIMEOUT_MS = 120_000;

const versionAnswer = z.object({ ray_version: z.string() });
const statusAnswer = z.object({ status: z.string(), message: z.string().nullish() });
const logAnswer = z.object({ logs: z.string() });

export function jobsApi(at: RayAddress, { submitTimeoutMs = SUBMIT_TIMEOUT_MS } = {}): JobsApi {
  const { address } = at;
  const jobPath = (id: string) => `/api/jobs/${encodeURIComponent(id)}`;
  const ask = (asked: Omit<RayRequest, "timeoutMs"> & Limits) => askRay(at, { timeoutMs: TIMEOUT_MS, ...asked });
  /** The content of an answer, which must be 200. */
  const read = async <T>(schema: z.ZodType<T>, asked: Parameters<typeof ask>[0]): Promise<T> => {
    const answer = await ask(asked);
    const { data } = schema.safeParse(answer.status === 200 ? parseJson(answer.body) : undefined);
    if (data === undefined) throw unexpected(address, asked, answer);
    return data;
  };

  const status: JobsApi["status"] = async (id, limits) => {
    const found = await read(statusAnswer, { method: "GET", path: jobPath(id), ...limits }).catch((error: unknown) => {
      if (error instanceof RayError && error.status === 404) return undefined;
      throw error;
    });
    return found && { status: found.status, message: found.message ?? "", hasEnded: ENDED.has(found.status) };
  };

  return {
    address,
    async version() {
      const { ray_version: version } = await read(versionAnswer, { method: "GET", path: "/api/version" });
      return version;
    },
    async upload(name, zip) {
      const path = `/api/packages/gcs/${name}`;
      const found = await ask({ method: "GET", path });
      if (found.status === 200) return;
      if (found.status !== 404) throw unexpected(address, { method: "GET", path }, found);
      const body = zip();
      const answer = await ask({ method: "PUT", path, body, contentType: "application/octet-stream", timeoutMs: SUBMIT_TIMEOUT_MS });
      if (answer.status !== 200) throw unexpected(address, { method: "PUT", path }, answer);
    },
    async submit({ id, entrypoint, runtimeEnv, metadata }, limits) {
      const content = { submission_id: id, entrypoint, runtime_env: runtimeEnv, metadata };
      // With the last slash: Ray redirects without it.
      const request = { method: "POST", path: "/api/jobs/", body: Buffer.from(JSON.stringify(content)) } as const;
      let problem: unknown;
      try {
        const answer = await ask({ ...request, timeoutMs: submitTimeoutMs, ...limits });
        if (answer.status === 200) return;
        problem = unexpected(address, request, answer);
      } catch (error) {
        problem = error;
      }
      // It may have arrived all the same, as an earlier try with this id may have.
      if ((await status(id).catch(() => undefined)) === undefined) throw problem;
    },
    status,
    async log(id, limits) {
      return (await read(logAnswer, { method: "GET", path: `${jobPath(id)}/logs`, ...limits })).logs;
    },
    async stop(id, limits) {
      await ask({ method: "POST", path: `${jobPath(id)}/stop`, ...limits });
    },
  };
}

const ENDED: ReadonlySet<string> = new Set(["STOPPED", "SUCCEEDED", "FAILED"]);
const MOST_QUOTED = 500;

function unexpected(address: string, { method, path }: Pick<RayRequest, "method" | "path">, { status, body }: RayAnswer): RayError {
  const isLong = body.length > MOST_QUOTED;
  const quoted = `${body.slice(0, MOST_QUOTED).trim()}${isLong ? " …" : ""}` || "nothing";
  const answered = `${method} ${path} answered ${status}: ${quoted}`;
  const problem = path === "/api/version" ? `${address} is not the dashboard of a Ray cluster` : `${address} does not answer as Ray does`;
  return new RayError(`${problem}: ${answered}`, { status, isPassing: status >= 500, isStarting: isNotReady(status, body) });
}

/** A head that has just come up answers `500 No available agent to submit job, please try again later.` */
function isNotReady(status: number, body: string): boolean {
  return [502, 503, 504].includes(status) || (status === 500 && /no available agent|try again later/i.test(body));
}
