import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { PROTOCOL_VERSION } from "../../src/protocol/limits.ts";
import { federate, RefusedError, type RunEvent } from "../../src/index.ts";
import { readLines, temporaryFolder, tinyRun, workersOf } from "../support/e2e.ts";
import { faultyWorkers } from "../support/faulty-workers.ts";
import { eventually } from "../support/patience.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

const runs = temporaryFolder();
const { launcher, setFaults } = faultyWorkers(runs);
const WORKERS = 2;

describe("a failed fit", () => {
  afterAll(() => expect(workersOf(process.pid), "workers left").toEqual([]));
  const pool = sharedWorkers({ workers: { count: WORKERS, retries: 1, taskTimeout: 60, beatTimeout: 45 }, launcher });
  // Of a worker that was killed or replaced, nothing is left.
  afterEach(() => eventually(() => expect(workersOf(process.pid)).toHaveLength(WORKERS)));

  let undisturbed: string;
  beforeAll(async () => {
    undisturbed = (await federate(onPool(tinyRun(runs(), "undisturbed"), pool())).result).sha256;
  });

  async function failuresOf(name: string, faults: object) {
    setFaults(faults);
    const run = federate(onPool(tinyRun(runs(), name), pool()));
    const failures: Extract<RunEvent, { type: "client-failure" }>[] = [];
    for await (const event of run) if (event.type === "client-failure") failures.push(event);
    const { sha256, metrics } = await run.result;
    return { failures, sha256, failed: metrics.flatMap(({ failed }) => failed) };
  }

  describe("is named and repeated, and the run ends with the bytes of an undisturbed run:", () => {
    test.each<[string, Record<string, [kind: string, message: RegExp]>]>([
      [
        "updates with wrong claims or wrong contents",
        {
          c00: ["shape", /\brows\b.*\[8, 224\].*\[1, 224\]/],
          c01: ["nan", /\bNaN\b/],
          c02: ["scale", /\bscale\b.*\b2\b.*\b4\b/],
          c03: ["rank", /\br\b.*\b1\b.*\b2\b/],
        },
      ],
      [
        "a worker killed mid-fit, an exception with its traceback, a garbled frame, a wrong number of examples",
        {
          c00: ["crash", /SIGKILL/],
          c01: ["raise", /the loss exploded[^]*Traceback/],
          c02: ["garbled", /invalid message: a frame/],
          c03: ["n", /\bn\b.*\b\d+\b.*\b\d+\b/],
        },
      ],
      ["a fit that hangs while its worker sends heartbeats, and a stopped worker", { c00: ["hang", /\b60 s/], c01: ["stop", /\b45 s/] }],
    ])("%s", async (_, faults) => {
      const kinds = Object.fromEntries(Object.entries(faults).map(([client, [kind]]) => [client, kind]));
      const { failures, sha256, failed } = await failuresOf(Object.values(kinds).join("-"), { fits: kinds });
      expect(failures.map(({ clientId }) => clientId).toSorted()).toEqual(Object.keys(faults));
      for (const failure of failures) {
        expect(failure).toMatchObject({ attempt: 1, willRetry: true });
        expect(failure.error).toMatch(faults[failure.clientId]?.[1] ?? /none/);
      }
      expect(failed).toEqual([]);
      expect(sha256).toBe(undisturbed);
    });
  });

  test("in every attempt is recorded, and the round continues without the client", async () => {
    const { failures, failed } = await failuresOf("always", { fits: { c01: "nan" }, always: true });
    expect(failures.map(({ attempt, willRetry }) => [attempt, willRetry])).toEqual([
      [1, true],
      [2, false],
    ]);
    expect(failed).toEqual(["c01"]);
    const journal = readLines(runs(), "always", "journal.jsonl");
    expect(journal.filter(({ type }) => type === "failure")).toHaveLength(2);
  });
});

describe("a worker that cannot start ends the run with an error that says why:", () => {
  afterEach(() => expect(workersOf(process.pid), "workers left").toEqual([]));

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
    setFaults(fault);
    const { result } = federate({ ...tinyRun(runs(), fault.start), launcher, workers: { count: 1, ...workers } });
    await expect(result).rejects.toMatchObject({ kind: "worker", ...expected });
  });
});
