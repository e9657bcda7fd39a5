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
  ["gives a promise that rejects", () => Promise.reject(fault)],
  // As another library's promise may be.
  // oxlint-disable-next-line unicorn/no-thenable
  ["gives a thenable that rejects", () => ({ then: (_: unknown, reject: (reason: unknown) => void) => reject(fault) })],
])("a policy that %s ends in a RunFailedError that names it, with the cause", async (_, policy) => {
  const error = await (async () => callPolicy("the selection mine of round 3", policy))().catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(RunFailedError);
  expect(error).toMatchObject({ kind: "run", message: "the selection mine of round 3 threw TypeError: x is undefined", cause: fault });
});

test("what is thrown need not be an Error", () => {
  const policy = () => {
    throw "no clients";
  };
  expect(() => callPolicy("the selection", policy)).toThrow('the selection threw "no clients"');
});

test("errors of prelort pass as they are, and so does what a policy gives", async () => {
  const interrupted = new InterruptedError();
  const throwing = () => {
    throw interrupted;
  };
  expect(() => callPolicy("the selection", throwing)).toThrow(interrupted);
  await expect(callPolicy("the selection", () => Promise.reject(interrupted))).rejects.toBe(interrupted);
  expect(callPolicy("the selection", () => 3)).toBe(3);
  await expect(callPolicy("the selection", async () => 3)).resolves.toBe(3);
});

test("a policy is called by the name it was made with, or that of its function or class, if it has one of its own", () => {
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

test("a wrong value is described in few words", () => {
  const round: Record<string, unknown> = {};
  round["self"] = round;
  const described = [undefined, null, Number.NaN, "c9", Promise.resolve(), () => 1, { r: 1 }, round].map(describeGiven);
  expect(described.slice(0, 6)).toEqual(["undefined", "null", "NaN", '"c9"', "a promise", "a function"]);
  expect(described.slice(6)).toEqual(['{"r":1}', "an object that cannot be shown"]);
  expect([Symbol("x"), 7n, { toJSON: () => undefined }].map(describeGiven)).toEqual(["Symbol(x)", "7", "an object without a value"]);
  expect(describeGiven(Array(1000).fill(0))).toHaveLength(78);
});
