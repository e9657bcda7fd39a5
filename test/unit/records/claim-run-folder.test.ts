import { spawn } from "node:child_process";
import { cpSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { claimNewFolder, claimRunFolder } from "../../../src/records/claim-run-folder.ts";
import { NOTHING_TRAINED } from "../../../src/records/metrics.ts";
import { unevaluated } from "./figures.ts";
import { createRunDirectory, reopenRunDirectory } from "../../../src/records/run-directory.ts";

// Each test starts processes, which may take long on a busy machine.
vi.setConfig({ testTimeout: 300_000 });

let runsDir: string;
beforeEach(async () => {
  runsDir = await mkdtemp(path.join(tmpdir(), "prelort-claim-"));
});
afterEach(() => rm(runsDir, { recursive: true }));

const round = (number: number) => ({
  round: number,
  global: [Buffer.from("weights")],
  state: {},
  trained: NOTHING_TRAINED,
  clients: [],
  setAside: [],
});
const pathOf = (...parts: string[]) => path.join(runsDir, ...parts);

/** A run that has committed a round and ended. */
async function makeRun(name: string, number = 0): Promise<void> {
  const directory = await createRunDirectory({ runsDir, name });
  await directory.writeRecord({ name });
  await directory.commitRound(round(number));
  await directory.close();
}

test("a run with a committed round is replaced only with --overwrite", async () => {
  await makeRun("a");
  await expect(createRunDirectory({ runsDir, name: "a" })).rejects.toThrow("--overwrite");
  const second = await createRunDirectory({ runsDir, name: "a", overwrite: true });
  expect(await readdir(pathOf("a"))).not.toContain("rounds");
  expect(await readdir(pathOf("a", "replaced"))).toEqual(["journal.jsonl", "rounds", "run.json", "workers"]);
  await second.commitRound(round(0));
  await second.close();
  expect(await readdir(pathOf("a"))).not.toContain("replaced");
  expect(await readdir(runsDir)).toEqual(["a"]);
});

test("a run whose rounds were removed to free space keeps its metrics and adapters unless overwritten", async () => {
  const run = await createRunDirectory({ runsDir, name: "a" });
  await run.commitRound(round(0));
  await run.writeMetrics(unevaluated(0));
  await run.close();
  await mkdir(pathOf("a", "adapters"));
  for (const gone of ["rounds", "metrics.jsonl"]) {
    await rm(pathOf("a", gone), { recursive: true });
    const left = await readdir(pathOf("a"));
    await expect(createRunDirectory({ runsDir, name: "a" })).rejects.toThrow(/--overwrite\b.*--set name=/);
    expect(await readdir(pathOf("a"))).toEqual(left);
  }
  const second = await createRunDirectory({ runsDir, name: "a", overwrite: true });
  expect(await readdir(pathOf("a", "replaced"))).toEqual(["adapters", "journal.jsonl", "rounds", "workers"]);
  await second.commitRound(round(0));
  await second.close();
  expect(await readdir(pathOf("a"))).not.toContain("replaced");
});

test("a run that never committed a round can be started again under its name", async () => {
  for (let start = 0; start < 2; start++) await (await createRunDirectory({ runsDir, name: "a" })).close();
  await writeFile(pathOf("a", "run.json.partial"), "{");
  await (await createRunDirectory({ runsDir, name: "a" })).close();
  expect(await readdir(pathOf("a"))).toEqual(["workers"]);
});

test("a replaced run is kept until the new one commits a round, and never deleted without --overwrite", async () => {
  await makeRun("a", 7);
  // Like failed starts.
  for (let start = 0; start < 2; start++) await (await createRunDirectory({ runsDir, name: "a", overwrite: true })).close();
  expect(await readdir(pathOf("a", "replaced", "rounds"))).toEqual(["7"]);
  await expect(createRunDirectory({ runsDir, name: "a" })).rejects.toThrow(new RegExp(`${pathOf("a", "replaced")}\\b.*--overwrite\\b`));
  const last = await createRunDirectory({ runsDir, name: "a", overwrite: true });
  await last.commitRound(round(0));
  await last.close();
  expect(await readdir(pathOf("a"))).not.toContain("replaced");
  expect(await readdir(pathOf("a", "rounds"))).toEqual(["0"]);
});

test("a run that trackers were told of is replaced with what they left in its folder, so that the new run is another one for them", async () => {
  await makeRun("a");
  await mkdir(pathOf("a", "track"));
  await writeFile(pathOf("a", "track", "mlflow.json"), "{}");
  for (const name of ["tensorboard", "wandb"]) await mkdir(pathOf("a", name));
  const second = await createRunDirectory({ runsDir, name: "a", overwrite: true });
  expect(await readdir(pathOf("a"))).not.toContain("track");
  const kept = ["journal.jsonl", "rounds", "run.json", "tensorboard", "track", "wandb", "workers"];
  expect(await readdir(pathOf("a", "replaced"))).toEqual(kept);
  await second.commitRound(round(0));
  await second.close();
  for (const name of ["tensorboard", "wandb"]) expect(await readdir(pathOf("a"))).not.toContain(name);
});

test("a run named NAME.replaced is left alone when the run NAME is replaced", async () => {
  await makeRun("a");
  await makeRun("a.replaced", 3);
  const live = await claimRunFolder(pathOf("a.replaced"));
  const second = await createRunDirectory({ runsDir, name: "a", overwrite: true });
  await second.commitRound(round(0));
  await second.close();
  expect(await readdir(pathOf("a.replaced", "rounds"))).toEqual(["3"]);
  live.release();
});

test("a replacement that is killed before its last step is undone, and one killed after it is finished", async () => {
  await makeRun("a", 5);
  const whole = await readdir(pathOf("a"));
  await mkdir(pathOf("a", "replacing"));
  for (const entry of ["journal.jsonl", "workers", "run.json"]) await rename(pathOf("a", entry), pathOf("a", "replacing", entry));
  (await claimRunFolder(pathOf("a"))).release();
  expect(await readdir(pathOf("a"))).toEqual(whole);

  await mkdir(pathOf("a", "replacing"));
  for (const entry of whole) await rename(pathOf("a", entry), pathOf("a", "replacing", entry));
  (await claimNewFolder({ runsDir, name: "a", overwrite: true })).release();
  expect(await readdir(pathOf("a"))).toEqual(["replaced"]);
  expect(await readdir(pathOf("a", "replaced"))).toEqual(whole);
});

test("a run under way in this process cannot be replaced, resumed or started again, and keeps its files and its lock", async () => {
  const first = await createRunDirectory({ runsDir, name: "a" });
  await first.writeRecord({});
  const attempts = [
    () => createRunDirectory({ runsDir, name: "a", overwrite: true }),
    () => createRunDirectory({ runsDir, name: "a" }),
    () => reopenRunDirectory(pathOf("a")),
  ];
  for (const attempt of attempts) await expect(attempt()).rejects.toThrow(/\bin this process\b/);
  expect(await readdir(pathOf("a"))).toContain("lock");
  await first.commitRound(round(0));
  // Now also with rounds to replace.
  for (const attempt of attempts) await expect(attempt()).rejects.toThrow(/\bin this process\b/);
  await first.close();
  expect(await readdir(pathOf("a"))).not.toContain("lock");
});

test("a folder that is not a run is never replaced, and nothing is written into it", async () => {
  await mkdir(pathOf("thesis"));
  await writeFile(pathOf("thesis", "chapter-1.txt"), "years of work");
  await expect(createRunDirectory({ runsDir, name: "thesis", overwrite: true })).rejects.toThrow("chapter-1.txt");
  await writeFile(pathOf("thesis", "journal.jsonl"), "");
  await expect(createRunDirectory({ runsDir, name: "thesis", overwrite: true })).rejects.toThrow("chapter-1.txt");
  await expect(claimRunFolder(pathOf("thesis"))).rejects.toMatchObject({ kind: "config", issues: [{ path: "name" }] });
  expect(await readdir(pathOf("thesis"))).toEqual(["chapter-1.txt", "journal.jsonl"]);
});

test.each([
  ["replacing", ["replacing"]],
  ["rounds", ["rounds"]],
  ["updates", ["updates"]],
  ["workers", ["workers"]],
  ["track", ["track"]],
  ["tensorboard", ["tensorboard"]],
  ["wandb", ["wandb"]],
  ["rounds/5", ["rounds", "5"]],
  ["adapters/r2", ["adapters", "r2"]],
])("a run folder in which %s is a link is refused, and the link's target is unchanged", async (_, parts) => {
  await mkdir(pathOf("home"));
  await writeFile(pathOf("home", "model.safetensors"), "years of work");
  await mkdir(pathOf("a", ...parts.slice(0, -1)), { recursive: true });
  await writeFile(pathOf("a", "run.json"), "{}");
  await symlink(pathOf("home"), pathOf("a", ...parts));
  const link = new RegExp(`${pathOf("a", ...parts)} is a link`);
  await expect(claimRunFolder(pathOf("a"))).rejects.toThrow(link);
  await expect(claimNewFolder({ runsDir, name: "a", overwrite: true })).rejects.toThrow(link);
  expect(await readdir(pathOf("home"))).toEqual(["model.safetensors"]);
  expect((await readdir(pathOf("a"))).toSorted()).toEqual(expect.arrayContaining([parts[0], "run.json"]));
});

test("a foreign folder that has the name of one of a run's folders is not emptied", async () => {
  await mkdir(pathOf("a", "replacing", "photos"), { recursive: true });
  await expect(claimRunFolder(pathOf("a"))).rejects.toThrow(/\bphotos\b/);
  expect(await readdir(pathOf("a"))).toEqual(["replacing"]);
});

test("a run whose folder was moved away writes nothing into a new folder with that name, and leaves its lock alone", async () => {
  const first = await createRunDirectory({ runsDir, name: "a" });
  await rename(pathOf("a"), pathOf("b"));
  const second = await createRunDirectory({ runsDir, name: "a" });
  const writes = [() => first.commitRound(round(0)), () => first.writeRecord({}), () => first.writeMetrics(unevaluated(0))];
  for (const write of writes) await expect(write()).rejects.toMatchObject({ kind: "run", message: expect.stringContaining(pathOf("a")) });
  await first.close();
  expect(await readdir(pathOf("a"))).toEqual(["lock", "workers"]);
  await expect(createRunDirectory({ runsDir, name: "a" })).rejects.toThrow(/\bin this process\b/);
  await second.close();
});

test("a run folder may be a link to another disk, which is kept", async () => {
  await mkdir(pathOf("elsewhere"));
  await symlink(pathOf("elsewhere"), pathOf("a"));
  await (await createRunDirectory({ runsDir, name: "a" })).close();
  expect(await readdir(pathOf("elsewhere"))).toContain("workers");
});

test("if the run directory cannot be created, the error gives the cause and names runs_dir", async () => {
  await writeFile(pathOf("file"), "");
  const attempt = createRunDirectory({ runsDir: pathOf("file", "runs"), name: "a" });
  const message = expect.stringContaining("ENOTDIR");
  await expect(attempt).rejects.toMatchObject({ kind: "environment", message, remedy: expect.stringContaining("runs_dir") });
});

test("unnamed runs that start together each take a free number", async () => {
  await writeFile(pathOf("run-1"), "");
  const directories = await Promise.all([1, 2, 3].map(() => createRunDirectory({ runsDir })));
  expect(directories.map(({ path: root }) => path.basename(root)).toSorted()).toEqual(["run-2", "run-3", "run-4"]);
  for (const directory of directories) await directory.close();
});

test("a copy of an active run's folder can be claimed, and names the original", async () => {
  const first = await createRunDirectory({ runsDir, name: "a" });
  await first.writeRecord({});
  cpSync(pathOf("a"), pathOf("b"), { recursive: true });
  const copy = await reopenRunDirectory(pathOf("b"));
  expect(copy.copyOf).toMatchObject({ pid: process.pid, folder: pathOf("a") });
  await copy.close();
  await first.close();
  expect((await readFile(pathOf("a", "run.json"), "utf8")).trim()).toBe("{}");
});

test("when three processes start a run with the same name together, one gets the folder; without a name each gets its own", async () => {
  const script = `
    const { claimNewFolder } = await import(${JSON.stringify(path.join(import.meta.dirname, "../../../dist/records/claim-run-folder.js"))});
    const { createInterface } = await import("node:readline");
    const claim = (name) => claimNewFolder({ runsDir: ${JSON.stringify(runsDir)}, name, overwrite: true });
    console.log("ready");
    for await (const line of createInterface({ input: process.stdin })) {
      const name = line === "-" ? undefined : line;
      console.log(await claim(name).then(({ root }) => root, ({ message }) => (message.includes("is in use by") ? "refused" : message)));
    }
  `;
  const racers = [1, 2, 3].map(() =>
    spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["pipe", "pipe", "inherit"] }),
  );
  try {
    const answers = racers.map((racer) => createInterface({ input: racer.stdout })[Symbol.asyncIterator]());
    const next = () => Promise.all(answers.map(async (lines) => String((await lines.next()).value)));
    expect(await next()).toEqual(["ready", "ready", "ready"]);
    const race = (name: string) => {
      for (const racer of racers) racer.stdin.write(`${name}\n`);
      return next();
    };
    for (let number = 0; number < 30; number++) {
      // Every third name has a run to replace.
      if (number % 3 === 0) await mkdir(pathOf(`n${number}`, "rounds"), { recursive: true });
      expect((await race(`n${number}`)).toSorted()).toEqual([pathOf(`n${number}`), "refused", "refused"]);
    }
    expect((await race("-")).toSorted()).toEqual(["run-1", "run-2", "run-3"].map((name) => pathOf(name)));
  } finally {
    for (const racer of racers) racer.kill("SIGKILL");
  }
});
