import { statSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { execa } from "execa";
import { afterEach, beforeEach, expect, test } from "vitest";
import { packageRoot } from "../../src/installation.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-provision-"));
  await mkdir(path.join(folder, "src"));
  await copyFile(path.join(packageRoot(), "src/provision.mjs"), path.join(folder, "src/provision.mjs"));
});
afterEach(() => rm(folder, { recursive: true }));

const provision = (...args: string[]) => execa(process.execPath, [path.join(folder, "src/provision.mjs"), ...args], { reject: false });

test("with a Node that is too old, src/provision.mjs exits with code 3 before it installs anything", async () => {
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ engines: { node: ">=99.1" } }));
  const { stderr, exitCode } = await provision("build");
  expect(stderr).toContain(">=99.1");
  expect(stderr).toContain(process.versions.node);
  expect(exitCode).toBe(3);
});

test("if Node packages cannot be installed, src/provision.mjs exits with code 3 and names the command that failed", async () => {
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ name: "broken", version: "1.0.0", engines: { node: ">=20.19" } }));
  await writeFile(path.join(folder, "package-lock.json"), "not a lock file");
  const { stderr, exitCode } = await provision("build");
  expect(stderr).toMatch(/\bnpm ci\b/);
  expect(exitCode).toBe(3);
});

test("for an unknown goal, src/provision.mjs exits with code 2 and lists the known ones", async () => {
  const { stderr, exitCode } = await provision("everything");
  expect(stderr).toMatch(
    /\bbuild, quickstart, check, test, test:cluster, test:trackers, test:gpu, bench, chaos, fuzz, format\b.*\beverything\b/,
  );
  expect(exitCode).toBe(2);
});

test("the built command is executable, which npx requires in a checkout", () => {
  expect(statSync(path.join(packageRoot(), "dist/cli/main.js")).mode & 0o111).toBe(0o111);
});
