import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { beforeAll, expect, test } from "vitest";
import { root, temporaryFolder } from "../support/e2e.ts";

const folder = temporaryFolder();
const canMakeHosts = process.platform === "linux" && process.getuid?.() === 0 && existsSync("/dev/net/tun");

beforeAll(() => {
  const tsc = path.join(root, "node_modules/.bin/tsc");
  expect(spawnSync(tsc, ["-p", "test/chaos/tsconfig.json"], { cwd: root, encoding: "utf8" })).toMatchObject({ status: 0, stdout: "" });
});

function runChaos(...options: readonly string[]) {
  const out = path.join(folder(), "chaos.json");
  const { stdout, status } = spawnSync(process.execPath, [".bench/chaos/main.js", ...options, "--out", out], {
    cwd: root,
    encoding: "utf8",
  });
  expect(status, stdout).toBe(0);
  return JSON.parse(readFileSync(out, "utf8")) as Readonly<
    Record<"struck" | "killed" | "leftOfNetwork", Readonly<Record<string, unknown>>>
  >;
}

test("a short chaos campaign with a fixed seed ends with the bytes of an undisturbed run and leaves nothing behind", () => {
  const { struck, killed } = runChaos("--seed", "3", "--faults", "8", "--kills", "2");
  expect(struck).toMatchObject({ isEqual: true, leftovers: [] });
  expect(struck["faults"]).toBeGreaterThanOrEqual(8);
  expect(killed).toMatchObject({ runs: 2, equal: 2, leftovers: [] });
});

test.runIf(canMakeHosts)("the same over two hosts, with faults of links and hosts, ends with those bytes and leaves nothing behind", () => {
  const { struck, leftOfNetwork } = runChaos("--seed", "3", "--faults", "7", "--kills", "0", "--hosts", "2");
  expect(struck).toMatchObject({ isEqual: true, leftovers: [] });
  expect(struck["faults"]).toBeGreaterThanOrEqual(7);
  expect(Object.keys(struck["byKind"] as object)).toEqual(
    expect.arrayContaining(["link down, shorter than the lease", "link down, longer than the lease"]),
  );
  expect(struck["readersOfShared"]).toBeGreaterThan(0);
  expect(leftOfNetwork).toEqual([]);
});
