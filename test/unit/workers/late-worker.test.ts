import { expect, onTestFinished, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import { createWorkerPool } from "../../../src/workers/pool.ts";
import { named, type Task } from "../../../src/workers/task.ts";
import { eventually } from "../../support/patience.ts";
import { scriptedSettings, type ScriptedWorker } from "../../support/scripted-worker.ts";

const evaluation = (part: number): Task<"evaluate"> => ({
  ...named({ kind: "evaluate", round: 1, part }),
  request: {
    type: "evaluate",
    round: 1,
    examples: "global",
    client_id: null,
    ranks: [2],
    scale: 2,
    start: 0,
    count: 1,
    batch_size: 1,
    max_new_tokens: 0,
    samples: 0,
  },
});

test("a cluster's late worker that must not be used does not end a run that others carry", async () => {
  let late: ScriptedWorker | undefined;
  const settings = scriptedSettings((worker) => {
    if (worker.workerId === "w0") void worker.serve();
    else late ??= worker;
  });
  const accept = ({ workerId }: { readonly workerId: string }) => {
    if (workerId !== "w0") throw new ConfigError([{ path: "workers.mixedDevices", message: "another device" }]);
  };
  const launcher = { ...settings.launcher, isRemote: true };
  const pool = createWorkerPool({ ...settings, launcher, devices: ["cpu"], count: 2, least: 1, retries: 0, accept });
  onTestFinished(() => pool.close({ now: true }));
  await pool.start();
  await pool.run(evaluation(0));
  // The cluster has room for it now, on a machine of another kind.
  late?.hello();
  await eventually(() => expect(settings.launched.map(({ workerId }) => workerId)).toContain("w1.1"));
  await pool.run(evaluation(1));
});
