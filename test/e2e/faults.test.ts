import path from "node:path";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { PROTOCOL_VERSION } from "../../src/protocol/limits.ts";
import { type FederateOptions, federate, processLauncher, RefusedError, type RunEvent } from "../../src/index.ts";
import { python, readLines, root, temporaryFolder, tinyRun, workersOf } from "../support/e2e.ts";

const runs = temporaryFolder();
const launcher = processLauncher({ command: python, args: [path.join(root, "test/fixtures/faulty_worker.py")] });

function withFault(name: string, fault: object, workers: FederateOptions["workers"] = {}): FederateOptions {
  process.env["PRELORT_TEST_FAULT"] = JSON.stringify(fault);
  return { ...tinyRun(runs(), name), launcher, workers: { count: 2, ...workers } };
}

afterEach(() => expect(workersOf(process.pid), "workers left").toEqual([]));

async function failuresOf(
  options: FederateOptions,
): Promise<{ failures: Extract<RunEvent, { type: "client-failure" }>[]; sha256: string; failed: readonly string[] }> {
  const run = federate(options);
  const failures: Extract<RunEvent, { type: "client-failure" }>[] = [];
  for await (const event of run) if (event.type === "client-failure") failures.push(event);
  const { sha256, metrics } = await run.result;
  return { failures, sha256, failed: metrics.flatMap(({ failed }) => failed) };
}

describe("a failed fit is named and repeated, and the run ends with the bytes of an undisturbed run:", () => {
  let undisturbed: string;
  beforeAll(async () => {
    undisturbed = (await federate(tinyRun(runs(), "undisturbed")).result).sha256;
  });

  test.each<[string, Record<string, [kind: string, message: RegExp]>, FederateOptions["workers"]]>([
    [
      "updates with wrong claims or wrong contents",
      {
        c00: ["shape", /\brows\b.*\[8, 224\].*\[1, 224\]/],
        c01: ["nan", /\bNaN\b/],
        c02: ["scale", /\bscale\b.*\b2\b.*\b4\b/],
        c03: ["rank", /\br\b.*\b1\b.*\b2\b/],
      },
      {},
    ],
    [
      "a worker killed mid-fit, an exception with its traceback, a garbled frame, a wrong number of examples",
      {
        c00: ["crash", /SIGKILL/],
        c01: ["raise", /the loss exploded[^]*Traceback/],
        c02: ["garbled", /invalid message: a frame/],
        c03: ["n", /\bn\b.*\b\d+\b.*\b\d+\b/],
      },
      {},
    ],
    [
      "a fit that hangs while its worker sends heartbeats, and a stopped worker, while another finishes",
      { c00: ["hang", /\b60 s/], c01: ["stop", /\b45 s/] },
      { count: 3, taskTimeout: 60, beatTimeout: 45 },
    ],
  ])("%s", async (_, faults, workers) => {
    const kinds = Object.fromEntries(Object.entries(faults).map(([client, [kind]]) => [client, kind]));
    const { failures, sha256, failed } = await failuresOf(withFault(Object.values(kinds).join("-"), { fits: kinds }, workers));
    expect(failures.map(({ clientId }) => clientId).toSorted()).toEqual(Object.keys(faults));
    for (const failure of failures) {
      expect(failure).toMatchObject({ attempt: 1, willRetry: true });
      expect(failure.error).toMatch(faults[failure.clientId]?.[1] ?? /none/);
    }
    expect(failed).toEqual([]);
    expect(sha256).toBe(undisturbed);
  });
});

test("a client that fails every attempt is recorded, and the round continues without it", async () => {
  const { failures, failed } = await failuresOf(withFault("always", { fits: { c01: "nan" }, always: true }, { retries: 1 }));
  expect(failures.map(({ attempt, willRetry }) => [attempt, willRetry])).toEqual([
    [1, true],
    [2, false],
  ]);
  expect(failed).toEqual(["c01"]);
  const journal = readLines(runs(), "always", "journal.jsonl");
  expect(journal.filter(({ type }) => type === "failure")).toHaveLength(2);
});

describe("a worker that cannot start ends the run with an error that says why:", () => {
  test.each([
    [
      "it dies on import",
      { start: "import" },
      {},
      { details: { exitCode: 1, logTail: expect.stringContaining("no module named torch, says the test") } },
    ],
    [
      "it speaks another protocol version",
      { start: "version" },
      {},
      {
        cause: expect.any(RefusedError),
        message: expect.stringMatching(new RegExp(`protocol version.*\\b${PROTOCOL_VERSION}\\b.*\\b99\\b`)),
      },
    ],
    [
      "it never says hello",
      { start: "silent" },
      { startTimeout: 2 },
      { details: { workerId: expect.stringMatching(/^w\d/) }, message: expect.stringMatching(/\b2 s\b/) },
    ],
  ] as const)("%s", async (_, fault, workers, expected) => {
    const { result } = federate(withFault(fault.start, fault, workers));
    await expect(result).rejects.toMatchObject({ kind: "worker", ...expected });
  });
});
