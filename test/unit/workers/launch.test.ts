import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { curveKeyPair } from "zeromq";
import { expect, onTestFinished, test, vi } from "vitest";
import { workersFolder } from "../../../src/installation.ts";
import type { LaunchOptions } from "../../../src/workers/launch.ts";
import { PATIENCE_MS } from "../../support/patience.ts";
import { processLauncher, type ProcessLauncherOptions } from "../../../src/workers/process-launcher.ts";

/** Logs what it was started with and what it read; over tcp it first prints a greeting and a public key. */
const publicKey = curveKeyPair().publicKey;
const tells = `
  const { argv, env, stdin } = process;
  const tell = (line) => { console.error(JSON.stringify({ argv, env, line: String(line) })); process.exit(); };
  console.log("Welcome to this host");
  if (!argv.includes("--curve")) tell("");
  console.log("prelort-key short");
  // A greeting need not end its line.
  process.stdout.write("\\u001b]0;gpu-1\\u0007prelort-key ${publicKey}\\n");
  stdin.once("data", tell);
`;

interface Told {
  readonly argv: string[];
  readonly env: Record<string, string>;
  readonly line: string;
  readonly log: string;
  readonly key: string | undefined;
  readonly pid: number | undefined;
}

async function launch(changes: Partial<LaunchOptions> = {}, how: Partial<ProcessLauncherOptions> = {}): Promise<Told> {
  const folder = await mkdtemp(join(tmpdir(), "launch-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const logPath = join(folder, "w0.log");
  const launcher = processLauncher({ command: process.execPath, args: ["-e", tells, "--"], ...how });
  const options = { workerId: "w0", index: 0, endpoint: "tcp://127.0.0.1:1", lease: 7, device: "cpu", threads: 1, logPath, ...changes };
  const worker = launcher.launch(options);
  const key = await worker.publicKey;
  expect(await worker.exited).toMatchObject({ exitCode: 0 });
  const log = await readFile(logPath, "utf8");
  const told = log.split("\n").find((line) => line.startsWith("{")) ?? "";
  return { ...JSON.parse(told), log, key, pid: worker.pid };
}

test("over tcp a worker is told the controller's key and its lease, and its own key is read from its standard output", async () => {
  const serverKey = curveKeyPair().publicKey;
  const { line, argv, key, log } = await launch({ serverKey });
  expect(JSON.parse(line)).toEqual({ server_key: serverKey });
  expect(argv.slice(-3)).toEqual(["--lease", "7", "--curve"]);
  expect(key).toBe(publicKey);
  // Whatever else it prints goes to its log.
  expect(log).toContain("Welcome to this host\n");
  expect(log).toContain("prelort-key short\n");
});

test("over ipc there are no keys", async () => {
  const { line, argv, key, log } = await launch();
  expect([line, key, argv.includes("--curve"), argv.includes("--lease")]).toEqual(["", undefined, false, false]);
  expect(log).toContain("Welcome to this host\n");
});

test("a command starts the worker elsewhere, on the hosts in turn, without what only this machine knows", async () => {
  const through = ["/usr/bin/env", "PRELORT_HOST={host}", "TWICE={host}{host}", "POD=prelort-{worker}"];
  const how = { through, hosts: ["gpu-1", "gpu-2"] };
  const serverKey = curveKeyPair().publicKey;
  const { argv, env, pid, key } = await launch({ serverKey, index: 3, device: "cuda:1" }, how);
  expect([env["PRELORT_HOST"], env["TWICE"], env["POD"]]).toEqual(["gpu-2", "gpu-2gpu-2", "prelort-w0"]);
  expect(argv.slice(argv.indexOf("--device"))).toEqual(["--device", "cuda:1", "--threads", "1", "--lease", "7", "--curve"]);
  expect([pid, key, argv.includes("--parent-pid")]).toEqual([undefined, publicKey, false]);
  expect(env["CUDA_VISIBLE_DEVICES"]).toBe(process.env["CUDA_VISIBLE_DEVICES"]);
});

test("the user's own PYTHON* variables do not reach a worker", async () => {
  for (const name of ["PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE"])
    vi.stubEnv(name, "/nowhere");
  vi.stubEnv("MY_OWN", "reaches it");
  onTestFinished(() => void vi.unstubAllEnvs());
  const { env } = await launch();
  const ofPython = Object.entries(env).filter(([name]) => name.startsWith("PYTHON"));
  expect(Object.fromEntries(ofPython)).toEqual({ PYTHONPATH: workersFolder(), PYTHONUNBUFFERED: "1" });
  expect(env["MY_OWN"]).toBe("reaches it");
});

test("a log is never written through a link", async () => {
  const folder = await mkdtemp(join(tmpdir(), "launch-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const [outside, logPath] = [join(folder, "outside"), join(folder, "w0.log")];
  await writeFile(outside, "mine");
  await symlink(outside, logPath);
  const launcher = processLauncher({ command: process.execPath, args: ["-e", tells, "--"] });
  const launching = () =>
    launcher.launch({ workerId: "w0", index: 0, endpoint: "ipc:///nowhere", lease: 7, device: "cpu", threads: 1, logPath });
  expect(launching).toThrow(/w0\.log could not be written: ELOOP/);
  expect(await readFile(outside, "utf8")).toBe("mine");
});

test("a command may clean up when it is stopped, and what it leaves behind ends with it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "launch-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const logPath = join(folder, "w0.log");
  const through = ["/bin/sh", "-c", 'trap "exit 7" TERM; "$@" & wait', "sh"];
  const stubborn = 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000); console.error(`ready ${process.pid}.`);';
  const launcher = processLauncher({ command: process.execPath, args: ["-e", stubborn, "--"], through });
  const serverKey = curveKeyPair().publicKey;
  const worker = launcher.launch({
    workerId: "w0",
    index: 0,
    endpoint: "tcp://127.0.0.1:1",
    serverKey,
    lease: 7,
    device: "cpu",
    threads: 1,
    logPath,
  });
  const pid = await vi.waitFor(async () => Number(/ready (\d+)\./.exec(await readFile(logPath, "utf8"))?.[1] ?? expect.fail()), {
    timeout: PATIENCE_MS,
  });
  process.kill(pid, 0);
  worker.kill();
  expect(await worker.exited).toEqual({ exitCode: 7 });
  await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"), { timeout: PATIENCE_MS });
});
