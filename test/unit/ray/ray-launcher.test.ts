import { readFile } from "node:fs/promises";
import { curveKeyPair } from "zeromq";
import { describe, expect, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import { rayLauncher } from "../../../src/ray/ray-launcher.ts";
import { type FakeDriver, fakeDriver } from "../../support/fake-driver.ts";
import { type FakeJob, fakeJobsServer } from "../../support/fake-jobs-server.ts";
import { eventually } from "../../support/patience.ts";
import { openRay } from "../../support/ray-pool.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

/** A cluster whose jobs have drivers that do nothing by themselves. */
async function cluster(handle?: Parameters<typeof fakeDriver>[1]) {
  const drivers: FakeDriver[] = [];
  const server = await fakeJobsServer((job) => drivers.push(fakeDriver(job, handle)));
  return { server, drivers };
}

const launchesOf = (driver: FakeDriver | undefined) =>
  (driver?.received ?? []).flatMap((message) => (message.type === "launch" ? [message] : []));
const killsOf = (driver: FakeDriver | undefined) =>
  (driver?.received ?? []).flatMap((message) => (message.type === "kill" && message.worker_id !== "none" ? [message.worker_id] : []));
const exited = (worker_id: string, changes: object = {}) =>
  ({ type: "exited", worker_id, exit_code: null, signal: null, problem: null, log: "", ...changes }) as never;

describe("a job on Ray", () => {
  test("starts all workers of a pool, and tells the driver what each needs", async () => {
    const { server, drivers } = await cluster();
    const resources = { CPU: 4, GPU: 1, "accelerator_type:A100": 0.001 };
    const runtimeEnv = { env_vars: { HF_HOME: "/hub" } };
    const ray = await openRay({ ...server, resources, runtimeEnv, python: "/opt/it's/python" });
    for (const id of ["w0", "w1"]) ray.launch(id);
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(2));
    const [job] = server.jobs;
    expect(server.jobs).toHaveLength(1);
    expect(job?.entrypoint).toMatch(/^python run\.py prelort_worker\.cluster\.driver /);
    expect(drivers[0]?.options).toMatchObject({ "worker-id": "launcher-0", lease: "9" });
    expect(drivers[0]?.options["endpoint"]).toMatch(/^tcp:\/\/127\.0\.0\.1:\d+$/);
    expect(job?.entrypoint).toContain(String.raw`'--python=/opt/it'\''s/python'`);
    expect(JSON.parse(drivers[0]?.options["resources"] ?? "")).toEqual({
      num_cpus: 4,
      num_gpus: 1,
      resources: { "accelerator_type:A100": 0.001 },
    });
    const [name] = server.packages.keys();
    expect(job?.runtimeEnv).toEqual({ ...runtimeEnv, working_dir: `gcs://${name}` });
    expect(launchesOf(drivers[0])[0]).toMatchObject({ worker_id: "w0", device: "cuda:0", threads: 2, avoid: [] });
  });

  test("a worker's key, its waiting and its end are what the driver tells; its log and host are kept", async () => {
    const { server, drivers } = await cluster();
    const ray = await openRay(server);
    const worker = ray.launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toEqual([expect.objectContaining({ device: "cpu" })]));
    drivers[0]?.send({ type: "waiting", reason: "Ray has 0 of 4 GPU free" } as never);
    await eventually(() => expect(ray.waits.get("w0")?.at(-1)).toBe("Ray has 0 of 4 GPU free"));
    const { publicKey } = curveKeyPair();
    drivers[0]?.placed("w0", { publicKey, host: "gpu-7", node: "node-a" });
    expect(await worker.publicKey).toBe(publicKey);
    expect(ray.waits.get("w0")?.at(-1)).toBe("");
    drivers[0]?.send(exited("w0", { exit_code: 1, log: "ImportError: torch\n" }));
    expect(await worker.exited).toEqual({ exitCode: 1, host: "gpu-7" });
    expect(await readFile(ray.logOf("w0"), "utf8")).toMatch(/w0 runs on gpu-7 \(Ray node node-a\)\nImportError: torch\n$/);
  });

  test("a later launch waits for what the driver told before", async () => {
    const { server, drivers } = await cluster();
    const ray = await openRay(server);
    ray.launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    drivers[0]?.send({ type: "waiting", reason: "Ray has 0 of 4 GPU free" } as never);
    await eventually(() => expect(ray.waits.get("w0")?.at(-1)).toBe("Ray has 0 of 4 GPU free"));
    // The driver tells a reason only when it changes.
    ray.launch("w1");
    expect(ray.waits.get("w1")).toEqual(["Ray has 0 of 4 GPU free"]);
  });

  test("a worker that could not be started tells why", async () => {
    const { server, drivers } = await cluster();
    const worker = (await openRay(server)).launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    drivers[0]?.send(exited("w0", { problem: "gpu-7 has no /opt/python" }));
    expect(await worker.exited).toEqual({ problem: "gpu-7 has no /opt/python" });
  });

  test("whose log has two keys is given up", async () => {
    const server = await fakeJobsServer((job) => {
      job.log = `prelort-key ${curveKeyPair().publicKey}\n`;
      fakeDriver(job);
    });
    const { problem, cause } = await (await openRay(server)).launch("w0").exited;
    expect(problem).toMatch(/prelort-[0-9a-f]{16}.*more than one key/);
    expect(cause).toBeInstanceOf(ConfigError);
    await eventually(() => expect(server.jobs[0]?.status).toBe("STOPPED"));
  });

  test("what looks like a key in its log and is none is passed over", async () => {
    const { server, drivers } = await cluster();
    const withNoise = await fakeJobsServer((job) => {
      job.log = `prelort-key ${'"'.repeat(40)}\nprelort-key short\n`;
      drivers.push(fakeDriver(job));
    });
    expect(server.jobs).toEqual([]);
    (await openRay(withNoise)).launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
  });
});

describe("killing a worker", () => {
  test("is done by the driver", async () => {
    const { server, drivers } = await cluster((message, driver) => {
      if (message.type === "kill") driver.send(exited(message.worker_id, { signal: "SIGKILL" }));
    });
    const ray = await openRay(server);
    const worker = ray.launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    drivers[0]?.placed("w0");
    await worker.publicKey;
    worker.kill();
    expect(await worker.exited).toEqual({ signal: "SIGKILL", host: "gpu-1" });
    worker.kill();
    ray.launch("w0.1");
    await eventually(() => expect(launchesOf(drivers[0])[1]).toMatchObject({ worker_id: "w0.1", avoid: [] }));
    expect(killsOf(drivers[0])).toEqual(["w0"]);
  });

  test("that is lost waits for nobody, and its node is avoided", async () => {
    const { server, drivers } = await cluster();
    const ray = await openRay(server);
    const worker = ray.launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    drivers[0]?.placed("w0", { node: "n7" });
    await worker.publicKey;
    worker.kill(true);
    expect(await worker.exited).toMatchObject({ signal: "SIGKILL" });
    ray.launch("w0.1");
    await eventually(() => expect(launchesOf(drivers[0])[1]).toMatchObject({ worker_id: "w0.1", avoid: ["n7"] }));
    expect(killsOf(drivers[0])).toEqual(["w0"]);
  });

  test("before its launch was sent is enough", async () => {
    const server = await fakeJobsServer();
    const ray = await openRay(server);
    const worker = ray.launch("w0");
    worker.kill();
    expect(await worker.exited).toMatchObject({ signal: "SIGKILL" });
  });
});

describe("a job that is lost", () => {
  test("loses its workers with what Ray says of it, and the next launch submits another", async () => {
    const { server, drivers } = await cluster();
    const ray = await openRay(server);
    const workers = ["w0", "w1"].map((id) => ray.launch(id));
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(2));
    drivers[0]?.placed("w0");
    await workers[0]?.publicKey;
    server.jobs[0]!.log += "OSError: no space left\n";
    drivers[0]?.die();
    for (const worker of workers) {
      const { problem, cause } = await worker.exited;
      expect(problem).toMatch(/FAILED: [^]*exit code 1; the end of its log:\n[^]*OSError: no space left$|connection to its driver/);
      expect(cause).toBeUndefined();
    }
    ray.launch("w0.1");
    await eventually(() => expect(launchesOf(drivers[1])).toEqual([expect.objectContaining({ worker_id: "w0.1" })]));
    expect(drivers[1]?.options["worker-id"]).toBe("launcher-1");
  });

  test("is one that Ray does not know any more", async () => {
    const { server, drivers } = await cluster();
    const worker = (await openRay(server)).launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    server.faults.jobsVanish = true;
    expect((await worker.exited).problem).toContain("Ray does not know it");
  });

  test.each([
    ["its driver", "ModuleNotFoundError: No module named 'zmq'", "workers.cluster"],
    ["its environment", "runtime_env setup failed: pip install nothing", "workers.cluster.runtime_env"],
  ])("before it ever came up, through %s, is a fault of the config", async (_, message, path) => {
    const fail = (job: FakeJob) => Object.assign(job, { status: "FAILED", message, log: "the last line\n" });
    const server = await fakeJobsServer(fail);
    const { problem, cause } = await (await openRay(server)).launch("w0").exited;
    expect(problem).toContain(message);
    expect(problem).toContain("the last line");
    expect(await issuesOf(() => Promise.reject(cause))).toEqual([issue(path, [message])]);
  });

  test("is one that stays PENDING for longer than a cluster takes; until then the launch says what it waits for", async () => {
    const server = await fakeJobsServer();
    const ray = await openRay(server, { pendingMs: 500 });
    const { problem } = await ray.launch("w0").exited;
    expect(problem).toMatch(/has not started it within/);
    expect(ray.waits.get("w0")?.[0]).toContain("Job has not started yet");
  });

  test("is one that runs, but whose driver does not join", async () => {
    const server = await fakeJobsServer((job) => {
      job.status = "RUNNING";
    });
    const { problem } = await (await openRay(server, { pendingMs: 500 })).launch("w0").exited;
    expect(problem).toMatch(/its driver has not joined within/);
  });

  test("is one whose driver breaks the wire contract", async () => {
    const { server, drivers } = await cluster();
    const worker = (await openRay(server)).launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    drivers[0]?.sendRaw(Uint8Array.of(1, 2, 3));
    expect((await worker.exited).problem).toContain("invalid message");
  });
});

describe("a cluster that cannot be used", () => {
  test.each([
    ["an address where nothing listens", "workers.cluster.address", "http://127.0.0.1:1"],
    ["a token that is missing", "workers.cluster.token_file", undefined],
  ])("because of %s is a fault of the config", async (_, path, address) => {
    const { server } = await cluster();
    server.faults.token = "secret";
    const { cause } = await (await openRay({ address: address ?? server.address })).launch("w0").exited;
    expect(await issuesOf(() => Promise.reject(cause))).toEqual([issue(path, [address ?? server.address])]);
  });

  test("since it has just been started is waited for", async () => {
    const { server, drivers } = await cluster();
    server.faults.answers = { "POST /api/jobs/": { status: 500, body: "No available agent to submit job, please try again later." } };
    const ray = await openRay(server);
    ray.launch("w0");
    await eventually(() => expect(ray.waits.get("w0")?.at(-1)).toContain("No available agent"));
    server.faults.answers = {};
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
  });

  test("for a while, in the middle of a run, is waited for", async () => {
    const { server, drivers } = await cluster();
    const ray = await openRay(server);
    const first = ray.launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    drivers[0]?.placed("w0");
    await first.publicKey;
    server.faults.answers = { "GET /api": { status: 503, body: "no healthy upstream" } };
    drivers[0]?.die();
    // The driver's connection is lost, whatever Ray says.
    expect((await first.exited).problem).toContain("connection to its driver");
    ray.launch("w0.1");
    await eventually(() => expect(ray.waits.get("w0.1")?.at(-1)).toContain("no healthy upstream"));
    server.faults.answers = {};
    await eventually(() => expect(launchesOf(drivers[1])).toHaveLength(1));
  });

  test("because its address is not safe is refused at once", async () => {
    const issues = await issuesOf(() => rayLauncher({ address: "http://head:8265" }));
    expect(issues).toEqual([expect.objectContaining({ path: "address", message: expect.stringMatching(/head.*tunnel/) as string })]);
    expect(rayLauncher({ address: "http://head:8265", isTrusted: true }).isRemote).toBe(true);
  });
});

describe("closing", () => {
  test("has the driver end the job in order", async () => {
    const { server, drivers } = await cluster();
    const ray = await openRay(server);
    ray.launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    await ray.launcher.close();
    expect(server.jobs).toEqual([expect.objectContaining({ status: "SUCCEEDED", stops: 0 })]);
    await ray.launcher.close();
  });

  test("has Ray stop the job if its driver does not", async () => {
    const { server, drivers } = await cluster(() => {});
    const ray = await openRay(server);
    ray.launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    await ray.launcher.close();
    expect(server.jobs[0]?.status).toBe("STOPPED");
  });

  test("asks again to stop a job that was PENDING, and refuses its driver when it comes up later", async () => {
    const server = await fakeJobsServer();
    const ray = await openRay(server);
    const worker = ray.launch("w0");
    await eventually(() => expect(ray.waits.get("w0")).not.toEqual([]));
    worker.kill();
    await ray.launcher.close();
    expect(server.jobs[0]?.stops).toBeGreaterThan(1);
    const late = fakeDriver(server.jobs[0]!);
    expect(late.received).toEqual([]);
  });

  test("does not break off a submit that is under way", async () => {
    const server = await fakeJobsServer((job) => {
      job.status = "RUNNING";
    });
    server.faults.submitHangs = true;
    const ray = await openRay(server);
    ray.launch("w0");
    await eventually(() => expect(server.jobs).toHaveLength(1));
    await ray.launcher.close();
    expect(server.jobs[0]).toMatchObject({ status: "STOPPED" });
  });

  test("never rejects, even if the cluster is gone", async () => {
    const { server, drivers } = await cluster();
    const ray = await openRay(server);
    const worker = ray.launch("w0");
    await eventually(() => expect(launchesOf(drivers[0])).toHaveLength(1));
    await server.close();
    drivers[0]?.die();
    await ray.launcher.close();
    expect(await worker.exited).toBeDefined();
  });
});
