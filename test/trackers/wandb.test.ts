import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import process from "node:process";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { packageRoot } from "../../src/installation.ts";
import { federate } from "../../src/server/federate.ts";
import type { Selection } from "../../src/strategy/strategy.ts";
import { tinyRun } from "../../src/testing/tiny-run.ts";
import { issue, issuesOf } from "../support/config-issues.ts";
import { eventually } from "../support/patience.ts";
import { before, expectOnce, readBack, runTracked, temporaryFolder, trackCli, trackCliIn, trackersOf } from "../support/tracked-runs.ts";

/*
 * W&B by its real client: offline, and as far as it gets without a server. No server of W&B is tested; local.test.ts has what every
 * tracker does.
 */

const KEY = "0123456789hunter22hunter22hunter220123456789";
const offline = { name: "wandb", mode: "offline" } as const;

/** What the client finds on the machine is not the tests'. */
beforeEach(async () => {
  onTestFinished(() => void vi.unstubAllEnvs());
  const folder = await temporaryFolder();
  for (const name of Object.keys(process.env)) if (name.startsWith("WANDB_")) vi.stubEnv(name, undefined);
  vi.stubEnv("NETRC", path.join(folder, "netrc"));
  vi.stubEnv("WANDB_CONFIG_DIR", folder);
});

/** All files in a folder, none of which is a link. */
async function filesOf(directory: string) {
  const files = await readdir(directory, { recursive: true, withFileTypes: true });
  expect(files.filter((file) => file.isSymbolicLink())).toEqual([]);
  return files.filter((file) => file.isFile());
}

/** Processes of the client that belong to one of these. */
function coresOf(trackers: readonly number[]): number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const words = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0");
      const isOurs = trackers.some((pid) => words[words.indexOf("--pid") + 1] === `${pid}`);
      return isOurs && words[0]?.endsWith("wandb-core") ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}

const hasRound = (directory: string, round: number) =>
  eventually(async () => expect(Object.keys((await readBack("wandb", directory)).values)).toContain(`${round}`));

test("a run has the project, entity, group, tags and name that were asked for, an id of its own, and no key in any file", async () => {
  vi.stubEnv("WANDB_API_KEY", KEY);
  // Of a program that tracks a run of its own, and starts ours.
  vi.stubEnv("WANDB_RUN_ID", "other");
  vi.stubEnv("WANDB_SWEEP_ID", "other");
  vi.stubEnv("WANDB_SERVICE", "other");
  const asked = { project: "speeches", entity: "team", group: "pilot", tags: ["a", "b"], runName: "first" };
  const { directory } = await runTracked({ runsDir: await temporaryFolder(), name: "tiny", track: [{ ...offline, ...asked }] });
  const held = await readBack("wandb", directory);
  await expectOnce(held, directory);
  const { key } = JSON.parse(await readFile(path.join(directory, "track", "wandb.json"), "utf8")) as { readonly key: string };
  const { project, entity, group } = asked;
  expect(held.tags).toMatchObject({ id: key, project, entity, group, tags: "a b", name: "first", "exit code": "0" });
  const files = await filesOf(directory);
  const read = await Promise.all(files.map(({ parentPath, name }) => readFile(path.join(parentPath, name))));
  expect(read.filter((content) => content.includes("hunter22"))).toEqual([]);
});

test("a controller that is killed leaves nothing behind, and its resumed run goes on as the same run, delivered once", async () => {
  const [runsDir, temporary] = [await temporaryFolder(), await temporaryFolder()];
  const directory = path.join(runsDir, "tiny");
  const program = path.join(packageRoot(), "test/trackers/tracked-controller.mjs");
  const env = { ...process.env, TMPDIR: temporary };
  const controller = spawn(process.execPath, [program, runsDir, JSON.stringify(offline)], { stdio: "ignore", env });
  await hasRound(directory, 1);
  const trackers = trackersOf(directory);
  expect(coresOf(trackers).length).toBeGreaterThan(0);
  controller.kill("SIGKILL");
  await once(controller, "close");
  await eventually(async () => expect([trackersOf(directory), coresOf(trackers), await readdir(temporary)]).toEqual([[], [], []]));
  expect(await trackCli(directory)).toMatchObject({ code: 0 });
  const killed = await readBack("wandb", directory);
  expect([killed.state, killed.tags["exit code"]]).toEqual(["killed", "255"]);
  // Of the name of that of the controller, since a record knows no more of it.
  const selection: Selection = ({ clients }) => clients.map(({ id }) => id);
  await runTracked({ runsDir, name: "tiny", resume: true, track: [offline], strategy: { selection } });
  const held = await readBack("wandb", directory);
  await expectOnce(held, directory);
  expect([held.runs, held.state, held.tags["cut off"]]).toEqual([killed.runs, "finished", undefined]);
  expect(await trackCli(directory)).toEqual({ code: 0, output: "wandb: had everything already\n" });
  await expectOnce(await readBack("wandb", directory), directory);
  await filesOf(directory);
});

test("the client's own process may be killed while a run trains: another one gets everything, once", async () => {
  const [runsDir, temporary] = [await temporaryFolder(), await temporaryFolder()];
  vi.stubEnv("TMPDIR", temporary);
  const directory = path.join(runsDir, "tiny");
  const selection = before(2, async () => {
    await hasRound(directory, 0);
    for (const pid of coresOf(trackersOf(directory))) process.kill(pid, "SIGKILL");
  });
  const { told } = await runTracked({ runsDir, name: "tiny", track: [offline], strategy: { selection } });
  expect(told.map(({ state }) => state)).toContain("behind");
  const held = await readBack("wandb", directory);
  await expectOnce(held, directory);
  expect([held.runs.length, held.state, held.tags["cut off"]]).toEqual([1, "finished", undefined]);
  await eventually(async () => expect((await readdir(temporary)).filter((name) => /wandb|^tmp/.test(name))).toEqual([]));
});

test("what a file lost that was cut off is delivered again, once, and a pipe in its place is not waited for", async () => {
  const { directory } = await runTracked({ runsDir: await temporaryFolder(), name: "tiny", track: [offline] });
  const [file = ""] = (await readdir(directory, { recursive: true })).filter((name) => name.endsWith(".wandb"));
  const log = path.join(directory, file);
  await truncate(log, Math.floor((await readFile(log)).length * 0.7));
  const cut = await readBack("wandb", directory);
  expect([Object.keys(cut.values).includes("3"), cut.tags["cut off"]]).toEqual([false, path.basename(file)]);
  expect((await trackCli(directory, "--with", JSON.stringify(offline))).output).toMatch(/^wandb: \d rounds? delivered, up to round 3\n$/);
  const held = await readBack("wandb", directory);
  await expectOnce(held, directory);
  expect([held.runs.length, held.state, held.tags["cut off"]]).toEqual([1, "finished", undefined]);
  await rm(log);
  execFileSync("mkfifo", [log]);
  expect(await trackCli(directory, "--with", JSON.stringify(offline))).toEqual({ code: 1, output: expect.stringContaining(log) as string });
});

test.each([".", "rounds"])(
  "settings in %s of a run's folder, which may come from somebody else, are not taken for the user's",
  async (name) => {
    const { directory } = await runTracked({ runsDir: await temporaryFolder(), name: "tiny", track: [] });
    const working = path.join(directory, name);
    await mkdir(path.join(working, "wandb"));
    await writeFile(path.join(working, "wandb", "settings"), "[default]\nentity = somebody\nbase_url = http://127.0.0.1:9\n");
    expect(await trackCliIn(working, directory, "--with", JSON.stringify(offline))).toMatchObject({ code: 0 });
    const held = await readBack("wandb", directory);
    await expectOnce(held, directory);
    expect(held.tags["entity"]).toBe("");
  },
);

test("without credentials, with some that are refused, and with a wrong option, nothing starts; the error says what to set, and not the key", async () => {
  const runsDir = await temporaryFolder();
  const start = (options: object = {}) => federate(tinyRun({ runsDir, track: [{ name: "wandb", ...options }] })).result;
  expect(await issuesOf(() => start({ mode: "offline", project: "a/b" }))).toEqual([issue("track[0]", ["wandb", "a/b"])]);
  expect(await issuesOf(start)).toEqual([issue("track[0]", ["wandb", "WANDB_API_KEY", "offline"])]);
  const refusing = createServer((_, response) => response.writeHead(401).end("no")).listen(0, "127.0.0.1");
  await once(refusing, "listening");
  onTestFinished(() => void refusing.close());
  vi.stubEnv("WANDB_BASE_URL", `http://127.0.0.1:${(refusing.address() as AddressInfo).port}`);
  vi.stubEnv("WANDB_API_KEY", KEY);
  const issues = await issuesOf(start);
  expect(issues).toEqual([issue("track[0]", ["wandb", "refused", "WANDB_API_KEY"])]);
  expect(JSON.stringify(issues)).not.toContain("hunter22");
  vi.stubEnv("WANDB_MODE", "disabled");
  expect(await issuesOf(start)).toEqual([issue("track[0]", ["wandb", "WANDB_MODE", "disabled"])]);
  expect(await readdir(runsDir)).toEqual([]);
});

test("a server that is not there delays only the start and the end of a run, which says so, and what it missed can be kept offline", async () => {
  vi.stubEnv("WANDB_BASE_URL", "http://127.0.0.1:9");
  vi.stubEnv("WANDB_API_KEY", KEY);
  const { directory, told } = await runTracked({ runsDir: await temporaryFolder(), name: "tiny", track: [{ name: "wandb" }] }, false);
  expect(told.map(({ round }) => round)).toEqual(told.map(() => -1));
  expect([told[0]?.state, told[0]?.error]).toEqual(["behind", expect.stringContaining("http://127.0.0.1:9")]);
  expect(told.at(-1)?.state).toBe("incomplete");
  expect(trackersOf(directory)).toEqual([]);
  expect(await trackCli(directory, "--with", JSON.stringify(offline))).toMatchObject({ code: 0 });
  await expectOnce(await readBack("wandb", directory), directory);
});
