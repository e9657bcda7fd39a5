import { expect, test } from "vitest";
import { requireNotMoved } from "../../../src/cli/resume.ts";

test("a run that is resumed keeps its name and its folder", () => {
  expect(() => requireNotMoved(["workers.count=1", "name=b", "runs_dir=c"])).toThrow(
    /--set name {2}names the run that is resumed; it cannot be changed\n.*--set runs_dir {2}holds the run/,
  );
  expect(() => requireNotMoved(["workers.count=1"])).not.toThrow();
});
