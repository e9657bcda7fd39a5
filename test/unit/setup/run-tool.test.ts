import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { runTool } from "../../../src/setup/run-tool.ts";
import { EnvironmentError } from "../../../src/errors.ts";

let cache: string;
beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), "prelort-run-tool-"));
  vi.stubEnv("PRELORT_CACHE", cache);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(cache, { recursive: true });
});

const context = { signal: new AbortController().signal, problem: "it could not be done", remedy: "do it again" };
const tool = (script: string) => [process.execPath, ["-e", script]] as const;

it("output of a tool is reported as progress, line by line, and logged", async () => {
  const progress: string[] = [];
  await runTool(...tool('console.log("one"); console.log("two")'), { ...context, progress: (line) => void progress.push(line) });
  expect(progress).toEqual(["one", "two"]);
  expect(await readFile(path.join(cache, "setup.log"), "utf8")).toMatch(/^\$ .*\none\ntwo\n$/);
});

it("the error of a failed tool has its last lines and the path of the log, which has all of them", async () => {
  const script = 'for (let line = 0; line < 9; line++) console.error("line " + line); process.exitCode = 4';
  const failed = runTool(...tool(script), { ...context, progress() {} });
  const log = path.join(cache, "setup.log");
  await expect(failed).rejects.toThrow(EnvironmentError);
  await expect(failed).rejects.toMatchObject({
    message: expect.stringMatching(new RegExp(`^it could not be done: line 6\\n *line 7\\n *line 8\\n.*${log}`)),
    remedy: "do it again",
  });
  expect(await readFile(log, "utf8")).toContain("line 0\nline 1\n");
});

it("the error for a log that cannot be written names it", async () => {
  const file = path.join(cache, "no-folder");
  await writeFile(file, "");
  vi.stubEnv("PRELORT_CACHE", file);
  await expect(runTool(...tool(""), { ...context, progress() {} })).rejects.toMatchObject({
    kind: "environment",
    message: expect.stringContaining(`${file}/setup.log`),
    remedy: expect.stringContaining("PRELORT_CACHE"),
  });
});
