import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { federate, type RunEvent } from "../../src/index.ts";
import { tinyRun } from "../../src/testing/tiny-run.ts";
import { readLines, root, temporaryFolder } from "../support/e2e.ts";

const runs = temporaryFolder();
const ROUNDS = 24;

/** Trains in a process whose files may not grow beyond so many bytes; resolves with the error that ends the run. */
function trainWithin(bytes: number, name: string): { readonly kind: string; readonly message: string } {
  const of = (file: string) => pathToFileURL(path.join(root, "dist", file)).href;
  const script = path.join(runs(), `${name}.mjs`);
  writeFileSync(
    script,
    `import { federate } from ${JSON.stringify(of("index.js"))};
import { tinyRun } from ${JSON.stringify(of("testing/index.js"))};
const run = federate(tinyRun({ runsDir: ${JSON.stringify(runs())}, name: ${JSON.stringify(name)}, rounds: ${ROUNDS} }));
await run.result.then(() => process.exit(9), ({ kind, message }) => console.log(JSON.stringify({ kind, message })));
`,
  );
  // In blocks of 512 bytes, as POSIX counts.
  const { stdout, stderr, status } = spawnSync("sh", ["-c", `ulimit -f ${bytes / 512}; exec "$0" "$1"`, process.execPath, script], {
    encoding: "utf8",
  });
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout) as { readonly kind: string; readonly message: string };
}

test("a run whose events can no longer be written ends at its next commit, says which file and why, and can be resumed", async () => {
  const { kind, message } = trainWithin(65_536, "full");
  const directory = path.join(runs(), "full");
  expect(kind).toBe("environment");
  expect(message).toContain(`${path.join(directory, "events.jsonl")} could not be written: EFBIG: file too large`);
  expect(message).toMatch(/To fix it: .*ulimit -f.*prelort resume/);
  const committed = readLines(directory, "journal.jsonl").filter(({ type }) => type === "commit").length;
  expect(committed).toBeGreaterThan(1);
  expect(committed).toBeLessThan(ROUNDS);

  const options = { runsDir: runs(), rounds: ROUNDS };
  const resumed = await federate({ ...tinyRun({ ...options, name: "full" }), resume: true }).result;
  const { sha256 } = await federate(tinyRun({ ...options, name: "undisturbed" })).result;
  expect(resumed.sha256).toBe(sha256);
  // The last line before the limit was torn: it is gone, and the others are in order.
  const events = readLines(directory, "events.jsonl") as unknown as readonly RunEvent[];
  expect(events.at(-1)?.type).toBe("run-end");
  const numbers = events.map(({ number }) => number);
  expect(numbers).toEqual([...new Set(numbers)].toSorted((a, b) => a - b));
  expect(resumed.metrics.map(({ round }) => round)).toEqual(Array.from({ length: ROUNDS + 1 }, (_, round) => round));
});
