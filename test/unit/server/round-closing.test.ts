import { describe, expect, it, test } from "vitest";
import { RunFailedError, WorkerError } from "../../../src/errors.ts";
import { closesEarly, closingRule, quorumError } from "../../../src/server/round-closing.ts";

describe("the closing rule of a round", () => {
  it("waits for all clients and requires one report by default", () => {
    expect(closingRule({}, 7)).toEqual({ quorum: 1, enough: 7, deadlineMs: undefined });
  });

  it("rounds shares of the clients up and converts the deadline to milliseconds", () => {
    expect(closingRule({ quorum: 0.5, enough: 0.8, deadline: 90 }, 7)).toEqual({ quorum: 4, enough: 6, deadlineMs: 90_000 });
  });

  it("requires no report if no client was asked", () => {
    expect(closingRule({ quorum: 1 }, 0)).toMatchObject({ quorum: 0, enough: 0 });
  });
});

describe("a round", () => {
  const rule = { quorum: 3, enough: 5, deadlineMs: 1 };
  test.each([
    ["does not close early while fewer than enough clients have reported", { reported: 4, isDue: false }, false],
    ["closes early once enough clients have reported", { reported: 5, isDue: false }, true],
    ["does not close at its deadline without a quorum", { reported: 2, isDue: true }, false],
    ["closes after its deadline once a quorum has reported", { reported: 3, isDue: true }, true],
    ["does not close early when all clients have reported", { reported: 6, isDue: true }, false],
  ])("%s", (_, state, expected) => {
    expect(closesEarly(rule, { asked: 6, ...state })).toBe(expected);
  });
});

describe("a round without a quorum", () => {
  const died = new WorkerError("died", { workerId: "w0" });
  const failures = new Map([["c3", died]]);

  it("fails with its first client's error if one report would have been enough", () => {
    expect(quorumError(2, closingRule({}, 1), { asked: 1, reported: 0 }, failures)).toBe(died);
  });

  it("fails with the numbers of clients, the quorum and the first failure", () => {
    const error = quorumError(2, closingRule({ quorum: 1 }, 4), { asked: 4, reported: 3 }, failures);
    expect(error).toBeInstanceOf(RunFailedError);
    expect(error.message).toMatch(/\bround 2\b.*\b3 of 4 clients\b.*\bclosing\.quorum\b.*\b4\b.*\bc3\b[^]*\bdied\b/);
    expect(error.cause).toBe(died);
  });
});
