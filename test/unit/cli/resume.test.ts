import { expect, test } from "vitest";
import { requireNotMoved } from "../../../src/cli/resume.ts";
import { ConfigError } from "../../../src/errors.ts";

test("a resumed run keeps its name and its folder", () => {
  let error: unknown;
  try {
    requireNotMoved(["workers.count=1", "name=b", "runs_dir=c"]);
  } catch (cause) {
    error = cause;
  }
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).issues).toMatchObject([
    { path: "name", location: "--set name", isArgument: true },
    { path: "runs_dir", location: "--set runs_dir", isArgument: true },
  ]);
  expect(() => requireNotMoved(["workers.count=1"])).not.toThrow();
});
