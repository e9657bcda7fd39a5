import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { curveKeyPair } from "zeromq";
import { expect, onTestFinished, test, vi } from "vitest";
import type { CurveKeys } from "../../../src/transport/transport.ts";
import { processLauncher } from "../../../src/workers/launch.ts";
import { workersFolder } from "../../../src/installation.ts";

/** Logs its arguments, environment and the line on its standard input, and exits. */
const echoes = `
  const { argv, env, stdin } = process;
  const tell = (line) => { console.log(JSON.stringify({ argv, env, line: String(line) })); process.exit(); };
  if (argv.includes("--curve")) stdin.once("data", tell); else tell("");
`;

async function launch(curve?: CurveKeys): Promise<{ argv: string[]; env: Record<string, string>; line: string }> {
  const folder = await mkdtemp(join(tmpdir(), "launch-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const logPath = join(folder, "w0.log");
  const launcher = processLauncher({ command: process.execPath, args: ["-e", echoes, "--"] });
  const worker = launcher.launch({ workerId: "w0", endpoint: "tcp://127.0.0.1:1", curve, device: "cpu", threads: 1, logPath });
  expect(await worker.exited).toEqual({ exitCode: 0 });
  return JSON.parse(await readFile(logPath, "utf8"));
}

test("keys reach a worker through its standard input, where nobody else can read them", async () => {
  const curve = { ...curveKeyPair(), serverKey: curveKeyPair().publicKey };
  const { line, argv, env } = await launch(curve);
  expect(line.endsWith("\n")).toBe(true);
  expect(JSON.parse(line)).toEqual({ server_key: curve.serverKey, public_key: curve.publicKey, secret_key: curve.secretKey });
  expect(argv.slice(-1)).toEqual(["--curve"]);
  for (const key of Object.values(curve)) expect(JSON.stringify([argv, env])).not.toContain(key);
});

test("the user's PYTHON* variables do not reach a worker", async () => {
  for (const name of ["PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE"])
    vi.stubEnv(name, "/nowhere");
  vi.stubEnv("MY_OWN", "passed on");
  onTestFinished(() => void vi.unstubAllEnvs());
  const { env } = await launch();
  const pythonVariables = Object.entries(env).filter(([name]) => name.startsWith("PYTHON"));
  expect(Object.fromEntries(pythonVariables)).toEqual({ PYTHONPATH: workersFolder(), PYTHONUNBUFFERED: "1" });
  expect(env["MY_OWN"]).toBe("passed on");
});

test("without keys a worker gets neither --curve nor a line on its standard input", async () => {
  const { line, argv } = await launch();
  expect([line, argv.includes("--curve")]).toEqual(["", false]);
});

test("a worker's log is never written through a link", async () => {
  const folder = await mkdtemp(join(tmpdir(), "launch-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const [outside, logPath] = [join(folder, "outside"), join(folder, "w0.log")];
  await writeFile(outside, "mine");
  await symlink(outside, logPath);
  const launcher = processLauncher({ command: process.execPath, args: ["-e", echoes, "--"] });
  const launching = () => launcher.launch({ workerId: "w0", endpoint: "tcp://127.0.0.1:1", device: "cpu", threads: 1, logPath });
  expect(launching).toThrow(/w0\.log.*ELOOP/);
  expect(await readFile(outside, "utf8")).toBe("mine");
});
