import { expect, test } from "vitest";
import { ConfigError } from "../../src/errors.ts";

test("a ConfigError mentions the config only if an issue is about one of its keys", () => {
  const message = "is wrong";
  for (const path of ["run-dir", "round", "r", "out", "--picture", "task.csv"]) {
    expect(new ConfigError([{ path, message }]).message).toBe(`1 problem:\n  ${path}  is wrong`);
  }
  expect(new ConfigError([{ path: "rounds", message }]).message).toBe("the config has 1 problem:\n  rounds  is wrong");
  expect(new ConfigError(["round", "lora.r"].map((path) => ({ path, message }))).message).toMatch(/^the config has 2 problems:/);
});
