import { expect, test } from "vitest";
import { camelKeys, snakeKeys } from "../../../src/base/case.ts";

test("keys are renamed at every depth, and back", () => {
  const written = { by_tier: [{ macro_f1: 1, r: 2 }], memory_gib: 3, plain: { fit_loss: null } };
  const read = { byTier: [{ macroF1: 1, r: 2 }], memoryGiB: 3, plain: { fitLoss: null } };
  expect(camelKeys(written)).toEqual(read);
  expect(snakeKeys(read)).toEqual(written);
  expect(JSON.stringify(snakeKeys(read))).toBe(JSON.stringify(written));
});

test("maps with keys of somebody else's keep them", () => {
  expect(camelKeys({ runtime_env: { env_vars: { MY_KEY: "1" } }, other_key: 1 })).toEqual({
    runtimeEnv: { env_vars: { MY_KEY: "1" } },
    otherKey: 1,
  });
});

test("a key that names the prototype stays a key", () => {
  const copy = snakeKeys(JSON.parse('{"__proto__": {"isAdmin": true}, "aB": 1}')) as Record<string, unknown>;
  expect(Object.keys(copy)).toEqual(["__proto__", "a_b"]);
  expect(copy["is_admin"]).toBeUndefined();
  expect(Object.getPrototypeOf(copy)).toBe(Object.prototype);
});
