import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { expect, onTestFinished, test } from "vitest";
import { isRefusal, takeLock } from "../../../src/records/lock.ts";
import { createControl } from "../../../src/ui/control.ts";
import { summarise } from "../../../src/ui/summary.ts";

function temporaryRun(record: object): string {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const directory = path.join(folder, "run");
  mkdirSync(directory);
  writeFileSync(path.join(directory, "run.json"), JSON.stringify(record));
  return directory;
}

/** A run folder that this process holds. */
async function heldRun(): Promise<string> {
  const directory = temporaryRun({});
  const lock = await takeLock(directory);
  if (isRefusal(lock)) throw new Error("the folder is held");
  onTestFinished(() => lock.release());
  return directory;
}

/** A process of this user that has nothing to do with prelort. */
function bystander(): ChildProcess {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  onTestFinished(async () => {
    const ended = once(child, "exit");
    if (child.exitCode === null && child.signalCode === null && child.kill("SIGKILL")) await ended;
  });
  return child;
}

async function stop(directory: string): Promise<string | undefined> {
  const { summary } = await summarise(directory, "run");
  expect(summary.state).toBe("running");
  return createControl().stop(summary, directory);
}

test.runIf(process.platform === "linux")("a process that a lock's text names without holding it is not interrupted", async () => {
  const directory = await heldRun();
  const { pid } = bystander();
  writeFileSync(path.join(directory, "lock"), JSON.stringify({ pid, host: hostname(), folder: directory, inode: "1" }));
  const signals = watchSignals();
  expect(await stop(directory)).toMatch(new RegExp(`process ${pid}, which lock names, does not hold the run`));
  expect(signals).toEqual([]);
});

test.runIf(process.platform === "linux")(
  "a program with runs of its own is not interrupted, since a signal would end all of them",
  async () => {
    const directory = await heldRun();
    expect(JSON.parse(readFileSync(path.join(directory, "lock"), "utf8"))).toMatchObject({ pid: process.pid });
    const signals = watchSignals();
    expect(await stop(directory)).toMatch(/stop it in the program that runs it/);
    expect(signals).toEqual([]);
  },
);

/** Notes the signals that this process would send. */
function watchSignals(): readonly unknown[] {
  const kill = process.kill.bind(process);
  const sent: unknown[] = [];
  process.kill = (...given) => {
    sent.push(given);
    return true;
  };
  onTestFinished(() => void (process.kill = kill));
  return sent;
}

test("a resume that is refused says so, with what its process complained of", async () => {
  const directory = temporaryRun({ name: "run", config: { rounds: 3, model: { name_or_path: "nowhere" }, nonsense: 1 } });
  const { summary } = await summarise(directory, "run");
  expect(summary.state).toBe("interrupted");
  const control = createControl();
  onTestFinished(() => control.close());
  expect(await control.resume(summary, directory)).toMatch(/nonsense/);
});
