import { describe, expect, it, test } from "vitest";
import { RunFailedError, WorkerError } from "../../../src/errors.ts";
import { closesEarly, closingRule, quorumError } from "../../../src/server/round-closing.ts";

describe("the rule of a round", () => {
  it("waits for all clients and needs one by default", () => {
    expect(closingRule({}, 7)).toEqual({ quorum: 1, enough: 7, deadlineMs: undefined });
  });

  it("rounds shares of the clients up, and counts the deadline in milliseconds", () => {
    expect(closingRule({ quorum: 0.5, enough: 0.8, deadline: 90 }, 7)).toEqual({ quorum: 4, enough: 6, deadlineMs: 90_000 });
  });

  it("needs no reports where no client was asked", () => {
    expect(closingRule({ quorum: 1 }, 0)).toMatchObject({ quorum: 0, enough: 0 });
  });
});

describe("a round closes before everyone has reported", () => {
  const rule = { quorum: 3, enough: 5, deadlineMs: 1 };
  test.each([
    ["not while fewer than enough have reported", { reported: 4, isDue: false }, false],
    ["once enough have reported", { reported: 5, isDue: false }, true],
    ["not after its deadline while a quorum is missing", { reported: 2, isDue: true }, false],
    ["after its deadline once a quorum has reported", { reported: 3, isDue: true }, true],
    ["not when there is nobody left to wait for", { reported: 6, isDue: true }, false],
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

  it("says how many of how many clients reported, and what the first failure was", () => {
    const error = quorumError(2, closingRule({ quorum: 1 }, 4), { asked: 4, reported: 3 }, failures);
    expect(error).toBeInstanceOf(RunFailedError);
    expect(error.message).toMatch(/round 2: 3 of 4 clients .*closing\.quorum.* 4; client c3 .*\n.*died/);
    expect(error.cause).toBe(died);
  });
});
