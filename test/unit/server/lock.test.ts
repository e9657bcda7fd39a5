import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lockHolder, releaseLock, takeLock } from "../../../src/server/lock.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-lock-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const lock = () => path.join(folder, "lock");

test("one holds it until it lets go", () => {
  expect(takeLock(folder)).toBeUndefined();
  expect(takeLock(folder)).toMatchObject({ pid: process.pid });
  expect(lockHolder(folder)).toMatchObject({ pid: process.pid, host: hostname() });
  releaseLock(folder);
  expect(lockHolder(folder)).toBeUndefined();
  expect(takeLock(folder)).toBeUndefined();
  expect(readdirSync(folder)).toEqual(["lock"]);
});

test("that of a process that is gone is taken over, and so is one that was never written whole", () => {
  for (const left of [`{"pid":2147483647,"host":${JSON.stringify(hostname())},"started":null}\n`, '{"pid":', ""]) {
    writeFileSync(lock(), left);
    expect(lockHolder(folder)).toBeUndefined();
    expect(takeLock(folder)).toBeUndefined();
    releaseLock(folder);
  }
});

test("that of another process with the number of one that is gone is not taken for its", () => {
  takeLock(folder);
  const held = JSON.parse(readFileSync(lock(), "utf8")) as object;
  writeFileSync(lock(), JSON.stringify({ ...held, started: "another boot 1" }));
  expect(takeLock(folder)).toBeUndefined();
});

test("that of another machine is never taken over", () => {
  writeFileSync(lock(), JSON.stringify({ pid: 2147483647, host: "elsewhere", started: null }));
  expect(takeLock(folder)).toMatchObject({ host: "elsewhere" });
});

test("of many processes that find a dead one's at once, one takes it over", async () => {
  writeFileSync(lock(), `{"pid":2147483647,"host":${JSON.stringify(hostname())},"started":null}\n`);
  const compiled = path.join(import.meta.dirname, "../../../dist/server/lock.js");
  const script = `
    const { takeLock } = await import(${JSON.stringify(compiled)});
    process.stdout.write("ready\\n");
    await new Promise((resolve) => process.stdin.once("data", resolve));
    process.stdout.write(takeLock(${JSON.stringify(folder)}) ? "refused\\n" : "took\\n");
    await new Promise((resolve) => process.stdin.once("data", resolve));
  `;
  const racers = Array.from({ length: 6 }, () =>
    spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["pipe", "pipe", "inherit"],
    }),
  );
  const lines = async (racer: ChildProcess) => String((await once(racer.stdout as NonNullable<typeof racer.stdout>, "data"))[0]).trim();
  expect(new Set(await Promise.all(racers.map(lines)))).toEqual(new Set(["ready"]));
  const answers = Promise.all(racers.map(lines));
  for (const racer of racers) racer.stdin.write("go\n");
  expect((await answers).toSorted()).toEqual([...Array.from({ length: 5 }, () => "refused"), "took"]);
  const ended = racers.map((racer) => once(racer, "exit"));
  for (const racer of racers) racer.stdin.end("end\n");
  await Promise.all(ended);
  expect(readdirSync(folder)).toEqual(["lock"]);
});
