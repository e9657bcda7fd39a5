import { execFileSync, type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { userInfo } from "node:os";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { federate, type FederateOptions } from "../../src/index.ts";
import { cacheFolder } from "../../src/installation.ts";
import { cli, python, temporaryFolder, tiny, tinyRun } from "../support/e2e.ts";
import { eventually } from "../support/patience.ts";

/* Real ssh and sshd (Debian's openssh-server), with keys of their own; skipped where there is no sshd. */

const SSHD = "/usr/sbin/sshd";
const runs = temporaryFolder();
const servers: ChildProcess[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.kill("SIGKILL");
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address ? address.port : 0;
}

/** Starts an sshd of this user's own, and gives the words that run a command through it. */
async function startSshd(): Promise<readonly string[]> {
  const folder = mkdtempSync(path.join(runs(), "ssh-"));
  const file = (name: string) => path.join(folder, name);
  for (const key of ["host", "user"]) execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file(key)]);
  writeFileSync(file("authorized"), readFileSync(file("user.pub")), { mode: 0o600 });
  // sshd of root wants this folder.
  if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true });
  const port = await freePort();
  const config = [
    `Port ${port}`,
    "ListenAddress 127.0.0.1",
    `HostKey ${file("host")}`,
    `AuthorizedKeysFile ${file("authorized")}`,
    "PasswordAuthentication no",
    "PermitRootLogin prohibit-password",
    "StrictModes no",
    "UsePAM no",
    "PidFile none",
  ];
  writeFileSync(file("sshd_config"), `${config.join("\n")}\n`);
  const server = spawn(SSHD, ["-D", "-e", "-f", file("sshd_config")], { stdio: ["ignore", "ignore", "pipe"] });
  servers.push(server);
  let log = "";
  server.stderr?.on("data", (data: Buffer) => (log += data.toString()));
  await eventually(() => expect(log).toContain("Server listening"));
  writeFileSync(file("known"), `[127.0.0.1]:${port} ${readFileSync(file("host.pub"), "utf8")}`);
  const options = ["-F", "none", "-p", `${port}`, "-i", file("user"), "-o", `UserKnownHostsFile=${file("known")}`, "-o", "BatchMode=yes"];
  return ["ssh", ...options, `${userInfo().username}@{host}`, `PRELORT_CACHE=${cacheFolder()}`];
}

function overSsh(command: readonly string[]): NonNullable<FederateOptions["workers"]> {
  return { transport: "tcp", command: [...command], hosts: ["127.0.0.1"], devices: ["cpu"], python };
}

test.skipIf(!existsSync(SSHD))("workers over ssh give the same bytes as local ones, and none is left", async () => {
  const command = await startSshd();
  const run = federate({ ...tinyRun(runs(), "over-ssh"), workers: { ...overSsh(command), count: 2 } });
  const pids: number[] = [];
  for await (const event of run) if (event.type === "worker-ready") pids.push(event.pid);
  const { sha256 } = await run.result;
  expect(sha256).toBe((await federate(tinyRun(runs(), "without-ssh")).result).sha256);
  expect(pids.length).toBeGreaterThan(0);
  for (const pid of pids) await eventually(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"));
});

test.skipIf(!existsSync(SSHD))("when an ssh is killed, its worker ends and another takes its place, to the same bytes", async () => {
  const command = await startSshd();
  const run = federate({ ...tinyRun(runs(), "killed-ssh"), workers: overSsh(command) });
  const ready: { readonly workerId: string; readonly pid: number }[] = [];
  let isKilled = false;
  for await (const event of run) {
    if (event.type === "worker-ready") ready.push(event);
    if (event.type !== "client-fit" || isKilled) continue;
    isKilled = true;
    // The local end: nothing reaches the other machine but the end of its input.
    execFileSync("pkill", ["-KILL", "-f", `^ssh .*${runs()}.*--worker-id w0 `]);
  }
  const { sha256 } = await run.result;
  expect(sha256).toBe((await federate(tinyRun(runs(), "not-killed")).result).sha256);
  expect(ready.map(({ workerId }) => workerId)).toEqual(["w0", "w0.1"]);
  for (const { pid } of ready) await eventually(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"));
});

test.skipIf(!existsSync(SSHD))("when the controller is killed, its workers over ssh end", async () => {
  const command = await startSshd();
  const config = {
    name: "orphaned",
    runs_dir: runs(),
    rounds: 1000,
    model: { name_or_path: tiny("tiny-llama"), task: "causal-lm" },
    lora: { r: 1, target_modules: ["q_proj"] },
    data: { path: tiny("words.jsonl"), prompt: "{word}", answer: "{gloss}", max_length: 32, eval_examples: 24, clients: 2 },
    strategy: { rank_assignment: { name: "list", ranks: [1, 1] } },
    workers: { transport: "tcp", command, hosts: ["127.0.0.1"], devices: ["cpu"], python },
  };
  const file = path.join(runs(), "orphaned.yaml");
  writeFileSync(file, JSON.stringify(config));
  const controller = spawn(process.execPath, [cli, "run", file, "--json"], { stdio: ["ignore", "pipe", "inherit"] });
  servers.push(controller);
  let output = "";
  controller.stdout?.on("data", (data: Buffer) => (output += data.toString()));
  await eventually(() => expect(output).toContain('"client-fit"'));
  const pid = Number(/"type":"worker-ready"[^\n]*?"pid":(\d+)/.exec(output)?.[1]);
  process.kill(pid, 0);
  controller.kill("SIGKILL");
  await eventually(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"));
});
