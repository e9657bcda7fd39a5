import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type FolderLock, isRefusal, takeLock } from "../../../src/records/lock.ts";

// Each test starts processes, which may take long on a busy machine.
vi.setConfig({ testTimeout: 300_000 });

const compiled = path.join(import.meta.dirname, "../../../dist/records/lock.js");
let folder: string;
let children: ChildProcess[];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-lock-"));
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

async function requireLock(root = folder): Promise<FolderLock> {
  const taken = await takeLock(root);
  if (isRefusal(taken)) throw new Error("the lock is held already");
  return taken;
}

/** A process that runs a script with `takeLock` and `folder`, and the lines that it prints. */
function start(script: string, before: readonly string[] = []): { child: ChildProcess; line: () => Promise<string> } {
  const preamble = `const { takeLock } = await import(${JSON.stringify(compiled)}); const folder = ${JSON.stringify(folder)};`;
  const args = [...before, process.execPath, "--input-type=module", "-e", `${preamble}\n${script}`];
  const child = spawn("env", args, { stdio: ["pipe", "pipe", "inherit"] });
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return { child, line: async () => String((await lines.next()).value) };
}

const TRY = `console.log("release" in (await takeLock(folder)) ? "took" : "refused");`;
const HOLD = `${TRY} setInterval(() => {}, 1000);`;

test("a lock is held until it is released, and its file names the holder", async () => {
  const lock = await requireLock();
  const text = JSON.parse(readFileSync(path.join(folder, "lock"), "utf8")) as object;
  expect(text).toMatchObject({ pid: process.pid, host: hostname(), folder });
  expect(await takeLock(folder)).toMatchObject({ isThisProcess: true, holder: { pid: process.pid } });
  lock.release();
  expect(readdirSync(folder)).toEqual([]);
  expect(isRefusal(await takeLock(folder))).toBe(false);
});

test("releasing a lock twice leaves the next holder's lock alone", async () => {
  const first = await requireLock();
  first.release();
  const second = await requireLock();
  first.release();
  expect(isRefusal(await takeLock(folder))).toBe(true);
  second.release();
});

test("another process learns who holds the lock, and gets it once that process is killed", async () => {
  const holder = start(HOLD);
  expect(await holder.line()).toBe("took");
  expect(await takeLock(folder)).toMatchObject({ isThisProcess: false, holder: { pid: holder.child.pid, folder } });
  holder.child.kill("SIGKILL");
  await once(holder.child, "exit");
  const lock = await requireLock();
  expect(lock.copyOf).toBeUndefined();
  lock.release();
});

test("a child process that outlives the holder does not keep the lock", async () => {
  const sleeper = `setInterval(() => {}, 1000); process.stdin.on("end", () => process.exit());`;
  const holder = start(`
    ${TRY}
    const { spawn } = await import("node:child_process");
    const child = spawn(process.execPath, ["-e", ${JSON.stringify(sleeper)}], { stdio: ["inherit", "ignore", "ignore"] });
    child.on("spawn", () => console.log(child.pid));
  `);
  expect(await holder.line()).toBe("took");
  const orphan = Number(await holder.line());
  holder.child.kill("SIGKILL");
  await once(holder.child, "exit");
  (await requireLock()).release();
  expect(process.kill(orphan, 0)).toBe(true);
  process.kill(orphan, "SIGKILL");
});

const NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"];
const HIDE = 'mount -o remount,hidepid=2 /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"';
const HIDDEN = ["unshare", "--mount", "sh", "-c", HIDE, "sh"];
const canRun = ([command = "", ...args]: readonly string[]) => spawnSync(command, [...args, process.execPath, "-e", ""]).status === 0;

// On most machines only root may create namespaces; elsewhere these tests are skipped.
test.skipIf(!canRun(NAMESPACE))("a holder in another PID namespace keeps its lock until it ends", async () => {
  const holder = start(`${TRY} process.stdin.once("data", () => process.exit());`, NAMESPACE);
  expect(await holder.line()).toBe("took");
  expect(await takeLock(folder)).toMatchObject({ isThisProcess: false, holder: { pid: 1, host: hostname() } });
  expect(await start(TRY, NAMESPACE).line()).toBe("refused");
  const ended = once(holder.child, "exit");
  holder.child.stdin?.write("end");
  await ended;
  (await requireLock()).release();
});

test.skipIf(!canRun(HIDDEN))("a holder whose /proc entry cannot be read keeps its lock", async () => {
  const lock = await requireLock();
  chmodSync(folder, 0o777);
  chmodSync(path.join(folder, "lock"), 0o666);
  expect(await start(TRY, HIDDEN).line()).toBe("refused");
  lock.release();
});

test.each(["", '{"pid":', '{"pid":2147483647,"host":"elsewhere","started":null}\n'])(
  "a lock file that nobody holds can be taken, whatever its content: %j",
  async (left) => {
    writeFileSync(path.join(folder, "lock"), left);
    const lock = await requireLock();
    expect(lock.copyOf).toBeUndefined();
    lock.release();
    expect(readdirSync(folder)).toEqual([]);
  },
);

test("the lock of a copied folder names the original; a moved folder does not count as a copy", async () => {
  const [live, copy, moved] = ["live", "copy", "moved"].map((name) => path.join(folder, name)) as [string, string, string];
  mkdirSync(live);
  const lock = await requireLock(live);
  cpSync(live, copy, { recursive: true });
  const ofCopy = await requireLock(copy);
  expect(ofCopy.copyOf).toMatchObject({ pid: process.pid, host: hostname(), folder: live });
  renameSync(live, moved);
  expect(isRefusal(await takeLock(moved))).toBe(true);
  renameSync(moved, live);
  ofCopy.release();
  lock.release();

  // The state after a kill.
  mkdirSync(moved);
  const holder = start(HOLD.replace("folder", JSON.stringify(live)));
  expect(await holder.line()).toBe("took");
  holder.child.kill("SIGKILL");
  await once(holder.child, "exit");
  renameSync(live, moved);
  const ofMoved = await requireLock(moved);
  expect(ofMoved.copyOf).toBeUndefined();
  ofMoved.release();
});

test("a link or a folder in place of the lock is refused, and the link's target is unchanged", async () => {
  const target = path.join(folder, "precious");
  writeFileSync(target, "years of work");
  symlinkSync(target, path.join(folder, "lock"));
  await expect(takeLock(folder)).rejects.toThrow("ELOOP");
  expect(readFileSync(target, "utf8")).toBe("years of work");
  rmSync(path.join(folder, "lock"));
  mkdirSync(path.join(folder, "lock"));
  await expect(takeLock(folder)).rejects.toThrow("EISDIR");
});

test("processes that take and release one lock repeatedly never hold it at the same time", async () => {
  const script = `
    const { closeSync, openSync, rmSync } = await import("node:fs");
    for (let taken = 0; taken < 100; ) {
      const lock = await takeLock(folder);
      if (!("release" in lock)) continue;
      // Fails if another process holds the lock, too.
      closeSync(openSync(folder + "/inside", "wx"));
      rmSync(folder + "/inside");
      lock.release();
      taken++;
    }
    console.log("done");
  `;
  const ends = [1, 2, 3].map(() => start(script).line());
  expect(await Promise.all(ends)).toEqual(["done", "done", "done"]);
});

describe("an EnvironmentError says what to do", () => {
  afterEach(() => vi.doUnmock("fs-native-extensions"));

  test("if the file system does not support locks", async () => {
    const missing = Object.assign(new Error("function not implemented"), { code: "ENOSYS" });
    vi.doMock("fs-native-extensions", () => ({
      tryLock: () => {
        throw missing;
      },
    }));
    const error = await takeLock(folder).catch((cause: unknown) => cause);
    expect(error).toMatchObject({
      kind: "environment",
      message: expect.stringContaining(path.join(folder, "lock")),
      remedy: expect.stringContaining("runs_dir"),
      cause: missing,
    });
  });

  test("if there is no build of the lock package for the system", async () => {
    vi.doMock("fs-native-extensions", () => {
      throw new Error("cannot find addon");
    });
    const error = await takeLock(folder).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ kind: "environment", message: expect.stringContaining(`${process.platform}-${process.arch}`) });
  });
});
