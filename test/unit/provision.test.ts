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

test("a Node that is too old is exit 3, before anything is installed", async () => {
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ engines: { node: ">=99.1" } }));
  const { stderr, exitCode } = await provision("build");
  expect(stderr).toContain(`Node >=99.1 is needed, and this is ${process.versions.node}`);
  expect(exitCode).toBe(3);
});

test("Node packages that cannot be installed are exit 3, and name the command that failed", async () => {
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ name: "broken", version: "1.0.0", engines: { node: ">=20.19" } }));
  await writeFile(path.join(folder, "package-lock.json"), "not a lock file");
  const { stderr, exitCode } = await provision("build");
  expect(stderr).toContain("failed: npm ci");
  expect(exitCode).toBe(3);
});

test("an unknown goal is exit 2, and the known ones are listed", async () => {
  const { stderr, exitCode } = await provision("everything");
  expect(stderr).toContain("which of build, quickstart, check, test, bench, chaos, fuzz, format? Got everything");
  expect(exitCode).toBe(2);
});

test("the built command can be executed, as npx needs it in a checkout", () => {
  expect(statSync(path.join(packageRoot(), "dist/cli/main.js")).mode & 0o111).toBe(0o111);
});
