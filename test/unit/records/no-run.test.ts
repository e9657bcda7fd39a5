import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import { claimRunFolder } from "../../../src/records/claim-run-folder.ts";
import { readRecord } from "../../../src/records/run-record.ts";
import { loadRun } from "../../../src/server/loaded-run.ts";

let runs: string;
beforeEach(() => {
  runs = mkdtempSync(path.join(tmpdir(), "prelort-test-"));
});
afterEach(() => rmSync(runs, { recursive: true }));

const READERS = { readRecord, loadRun, claimRunFolder };

/** What every reader of runs says about a folder, which must be the same. */
async function refusalOf(name: string): Promise<string> {
  const messages = new Set<string>();
  for (const [reader, read] of Object.entries(READERS)) {
    const error = await read(path.join(runs, name)).then(
      () => expect.unreachable(`${reader} found a run`),
      (cause: unknown) => cause,
    );
    expect(error, reader).toBeInstanceOf(ConfigError);
    messages.add((error as ConfigError).issues.map(({ message }) => message).join("\n"));
  }
  expect(messages.size).toBe(1);
  return [...messages][0] as string;
}

function addRun(...names: readonly string[]): void {
  for (const name of names) {
    mkdirSync(path.join(runs, name), { recursive: true });
    writeFileSync(path.join(runs, name, "run.json"), "{}");
  }
}

test("a run that is not there is named by its absolute path, with the run of a similar name", async () => {
  addRun("quickstart", "other");
  expect(await refusalOf("quikstart")).toBe(
    `there is no folder ${path.join(runs, "quikstart")}; did you mean ${path.join(runs, "quickstart")}?`,
  );
});

test("where no name is similar, the runs that are there are listed", async () => {
  addRun("a", "b", "c", "d", "e", "f", "g");
  expect(await refusalOf("something-else")).toContain(`the runs in ${runs} are a, b, c, d, e and 2 others`);
});

test("where there are no runs at all, the command that starts one is named", async () => {
  expect(await refusalOf("first")).toMatch(/there is no folder .*first; .*prelort run$/);
});

test("a folder without a record says which file it lacks, a file that it is one, a folder of runs which to give", async () => {
  addRun("nested/a", "nested/b");
  mkdirSync(path.join(runs, "empty"));
  writeFileSync(path.join(runs, "notes"), "");
  expect(await refusalOf("empty")).toMatch(/empty holds no run: there is no run\.json in it; .*prelort run$/);
  expect(await refusalOf("notes")).toMatch(/notes is a file; give a run's folder/);
  expect(await refusalOf("nested")).toContain(`such as ${path.join(runs, "nested", "a")}`);
});

test("a run that has only taken its folder is told from none", async () => {
  mkdirSync(path.join(runs, "begun"));
  writeFileSync(path.join(runs, "begun", "lock"), "");
  expect(await refusalOf("begun")).toMatch(/begun has written no run\.json yet: wait .*prelort run$/);
});
