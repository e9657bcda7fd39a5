import { expect, test } from "vitest";
import { InterruptedError, RunFailedError } from "../../../src/errors.ts";
import { callPolicy, describeGiven, namePolicy } from "../../../src/strategy/call-policy.ts";
import { randomSelection } from "../../../src/strategy/selection/random.ts";

const fault = new TypeError("x is undefined");

test.each<[string, () => unknown]>([
  [
    "throws",
    () => {
      throw fault;
    },
  ],
  ["returns a promise that rejects", () => Promise.reject(fault)],
  // Another library's promise may be one.
  // oxlint-disable-next-line unicorn/no-thenable
  ["returns a thenable that rejects", () => ({ then: (_: unknown, reject: (reason: unknown) => void) => reject(fault) })],
])("when a policy %s, the RunFailedError names the policy and keeps the cause", async (_, policy) => {
  const error = await (async () => callPolicy("the selection mine of round 3", policy))().catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(RunFailedError);
  const message = expect.stringMatching(/^the selection mine of round 3 .*TypeError: x is undefined \(call-policy\.test\.ts:\d+:\d+\)$/);
  expect(error).toMatchObject({ kind: "run", message, cause: fault });
});

test("a policy may throw something other than an Error", () => {
  const policy = () => {
    throw "no clients";
  };
  expect(() => callPolicy("the selection", policy)).toThrow(/^the selection .*"no clients"$/);
});

test("prelort's own errors and a policy's results pass through unchanged", async () => {
  const interrupted = new InterruptedError();
  const throwing = () => {
    throw interrupted;
  };
  expect(() => callPolicy("the selection", throwing)).toThrow(interrupted);
  await expect(callPolicy("the selection", () => Promise.reject(interrupted))).rejects.toBe(interrupted);
  expect(callPolicy("the selection", () => 3)).toBe(3);
  await expect(callPolicy("the selection", async () => 3)).resolves.toBe(3);
});

test("a policy is named by its description, else by its function or class, else only by its kind", () => {
  class Mine {
    distribute() {}
  }
  function largestFirst() {}
  expect(namePolicy("selection", randomSelection({ fraction: 0.5 }))).toBe("the selection random");
  expect(namePolicy("selection", largestFirst)).toBe("the selection largestFirst");
  expect(namePolicy("aggregation", new Mine())).toBe("the aggregation Mine");
  expect(namePolicy("aggregation", {})).toBe("the aggregation");
  expect(namePolicy("rank assignment", { rankAssignment: () => 4 }.rankAssignment)).toBe("the rank assignment");
});

test("the description of a wrong value is short", () => {
  const round: Record<string, unknown> = {};
  round["self"] = round;
  const described = [undefined, null, Number.NaN, "c9", Promise.resolve(), () => 1, { r: 1 }, round].map(describeGiven);
  expect(described.slice(0, 6)).toEqual(["undefined", "null", "NaN", '"c9"', "a promise", "a function"]);
  expect(described.slice(6)).toEqual(['{"r":1}', "an object that cannot be shown"]);
  expect([Symbol("x"), 7n, { toJSON: () => undefined }].map(describeGiven)).toEqual(["Symbol(x)", "7", "an object without a value"]);
  expect(describeGiven(Array(1000).fill(0))).toHaveLength(78);
});
