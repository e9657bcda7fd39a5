import { expect, test } from "vitest";
import { argumentError, ConfigError } from "../../src/errors.ts";

const key = { path: "name", message: "is wrong" };
const argument = { ...key, isArgument: true };

test("an argument is reported without blaming the config, whatever it is called", () => {
  for (const path of ["name", "run-dir", "--picture", "task.csv"]) {
    const error = argumentError(path, "is wrong");
    expect(error.message).toBe(`1 problem:\n  ${path}  is wrong`);
    expect(error.issues).toEqual([{ ...argument, path }]);
  }
});

test("the config is named as soon as one problem is its own", () => {
  expect(new ConfigError([key]).message).toBe("the config has 1 problem:\n  name  is wrong");
  expect(new ConfigError([argument, { ...key, path: "lora.r" }]).message).toMatch(/^the config has 2 problems:/);
});

test("each problem takes one line, with its location and its key", () => {
  const issues = [
    { ...key, location: "a\nb.yaml:1:2" },
    { ...key, location: "--set name" },
  ];
  expect(new ConfigError(issues).message.split("\n").slice(1)).toEqual(["  a\\nb.yaml:1:2  name: is wrong", "  --set name  is wrong"]);
});
