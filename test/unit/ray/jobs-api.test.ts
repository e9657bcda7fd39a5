import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { jobsApi } from "../../../src/ray/jobs-api.ts";
import { RayError } from "../../../src/ray/ray-error.ts";
import { fakeJobsServer } from "../../support/fake-jobs-server.ts";

const job = { id: "prelort-1", entrypoint: "python run.py", runtimeEnv: {}, metadata: {} };

async function errorOf(promise: Promise<unknown>): Promise<RayError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof RayError)) throw new Error(`expected a RayError, got ${String(error)}`);
  return error;
}

async function tokenFile(content: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "token-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "token"), content);
  return join(folder, "token");
}

test("a package is uploaded once, and a job is submitted, looked at and stopped", async () => {
  const server = await fakeJobsServer();
  const api = jobsApi({ address: `${server.address}/` });
  expect(await api.version()).toBe("2.60.0");
  for (let time = 0; time < 2; time++) await api.upload("_ray_pkg_1.zip", () => Buffer.from("zip"));
  expect([...server.packages]).toEqual([["_ray_pkg_1.zip", Buffer.from("zip")]]);
  expect(server.requests.filter((request) => request.startsWith("PUT"))).toHaveLength(1);
  await api.submit(job);
  expect(await api.status(job.id)).toEqual({ status: "PENDING", message: "Job has not started yet.", hasEnded: false });
  Object.assign(server.jobs[0]!, { status: "RUNNING", log: "line\n" });
  expect(await api.log(job.id)).toBe("line\n");
  await api.stop(job.id);
  expect((await api.status(job.id))?.hasEnded).toBe(true);
  expect(await api.status("prelort-2")).toBeUndefined();
});

test("browser traffic is refused by Ray, and a request of ours is not taken for it", async () => {
  const server = await fakeJobsServer();
  expect((await fetch(`${server.address}/api/version`)).status).toBe(405);
  expect(await jobsApi(server).version()).toBe("2.60.0");
});

test("a token is read from its file, and an error about it never tells it", async () => {
  const server = await fakeJobsServer();
  server.faults.token = "secret-1";
  const version = async (file?: string) => jobsApi({ ...server, tokenFile: file }).version();
  expect(await version(await tokenFile("secret-1\n"))).toBe("2.60.0");
  const missing = await errorOf(version());
  expect(missing).toMatchObject({ option: "workers.cluster.token_file", status: 401, isPassing: false });
  for (const content of ["secret-2", "secret-2\nsecret-3", ""]) {
    const file = await tokenFile(content);
    const wrong = await errorOf(version(file));
    expect(wrong.option).toBe("workers.cluster.token_file");
    expect(wrong.message).toContain(file);
    expect(`${wrong.stack}`).not.toContain("secret");
  }
  expect((await errorOf(version("/nowhere/token"))).message).toMatch(/\/nowhere\/token.*ENOENT/);
});

test("a submit that Ray carries out but does not confirm counts as submitted", async () => {
  const server = await fakeJobsServer();
  const api = jobsApi(server, { submitTimeoutMs: 300 });
  await api.submit(job);
  // Ray answers 500 to the same id.
  await api.submit(job);
  server.faults.submitStatus = 500;
  await api.submit({ ...job, id: "prelort-2" });
  delete server.faults.submitStatus;
  server.faults.submitHangs = true;
  await api.submit({ ...job, id: "prelort-3" });
  expect(server.jobs.map(({ id }) => id)).toEqual(["prelort-1", "prelort-2", "prelort-3"]);
});

test("a submit that is refused tells what Ray answered", async () => {
  const server = await fakeJobsServer();
  server.faults.answers = { "POST /api/jobs/": { status: 500, body: "runtime_env: unknown field" } };
  const error = await errorOf(jobsApi(server).submit(job));
  expect(error.message).toMatch(/POST \/api\/jobs\/ answered 500: runtime_env: unknown field/);
  expect(error.isPassing).toBe(true);
});

test.each([
  ["another web server", { status: 200, body: "<html>Welcome</html>" }, /not the dashboard of a Ray cluster.*200.*<html>Welcome/],
  ["a server without that page", { status: 404, body: "" }, /not the dashboard of a Ray cluster.*404: nothing/],
  ["truncated JSON", { status: 200, body: '{"ray_version": "2.6' }, /answered 200: \{"ray_version": "2\.6/],
  ["JSON of another shape", { status: 200, body: '{"ray": 2}' }, /answered 200: \{"ray": 2\}/],
])("%s is not taken for Ray", async (_, answer, message) => {
  const server = await fakeJobsServer();
  server.faults.answers = { "/api/version": answer };
  const error = await errorOf(jobsApi(server).version());
  expect(error.message).toMatch(message);
  expect(error).toMatchObject({ option: "workers.cluster.address", isPassing: false });
});

test("an address where nothing, something else, or no machine is, is named", async () => {
  const server = await fakeJobsServer();
  server.faults.breaksOff = true;
  expect(await errorOf(jobsApi(server).version())).toMatchObject({ isPassing: true });
  await server.close();
  const refused = await errorOf(jobsApi(server).version());
  expect(refused.message).toContain(`nothing listens at ${server.address}`);
  expect(refused.isPassing).toBe(true);
  const unknown = await errorOf(jobsApi({ address: "https://nowhere.invalid" }).version());
  expect(unknown.message).toContain("nowhere.invalid");

  const other = createServer((socket) => socket.on("error", () => {}).end("SSH-2.0-OpenSSH_9\r\n"));
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as AddressInfo;
  expect((await errorOf(jobsApi({ address: `http://127.0.0.1:${port}` }).version())).message).toContain("does not speak HTTP");
  expect((await errorOf(jobsApi({ address: `https://127.0.0.1:${port}` }).version())).message).toContain("does not speak TLS");
});

test("a server that does not answer is given up after the time for it", async () => {
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void silent.close());
  const { port } = silent.address() as AddressInfo;
  const error = await errorOf(jobsApi({ address: `http://127.0.0.1:${port}` }).status("x", { timeoutMs: 50 }));
  expect(error.message).toContain("did not answer within 0.05 s");
  expect(error.isPassing).toBe(true);
});
