import { expect, test } from "vitest";
import { named, type TaskIdentity } from "../../../src/workers/task.ts";

test.each<[TaskIdentity, string]>([
  [{ kind: "prepare" }, "prepare"],
  [{ kind: "load" }, "load"],
  [{ kind: "fit", round: 3, clientId: "c07" }, "round-3/fit/c07"],
  [{ kind: "fit", round: 3, clientId: "a/fit/b" }, "round-3/fit/a/fit/b"],
  [{ kind: "evaluate", round: 0, part: 0 }, "round-0/evaluate/0"],
  [{ kind: "evaluate-merged", round: 2, part: 1 }, "round-2/evaluate-merged/1"],
  [{ kind: "evaluate-client", round: 2, clientId: "c1", part: 0 }, "round-2/evaluate-client/c1/0"],
  [{ kind: "ask", round: 2, clientId: "c1", part: 0 }, "round-2/ask/c1/0"],
  [{ kind: "measure", clientId: "c1", part: "warm-up" }, "measure/c1/warm-up"],
])("the task %j has the id %s on the wire and keeps its identity", (identity, id) => {
  expect(named(identity)).toEqual({ identity, id });
});
