import { expect, test } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import { trainingOf } from "../../../src/planning/training.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { withServerOptimizer } from "../../../src/strategy/aggregation/server-optimizer.ts";
import { tinyRun } from "../../../src/testing/tiny-run.ts";

test("a plan's training has the rates of every round, the examples of a step and both optimizers", () => {
  const { launcher: _, ...input } = tinyRun({
    runsDir: "unused",
    rounds: 3,
    fit: {
      lr: 0.1,
      lrBRatio: 4,
      headLr: 0.3,
      lrSchedule: "linear",
      minLr: 0.01,
      batchSize: 8,
      warmupSteps: 2,
      gradientAccumulationSteps: 3,
      optimizer: "sgd",
    },
    strategy: { aggregation: withServerOptimizer(segmentWise(), { name: "adam" }) },
  });
  const { rates, ...others } = trainingOf(validateRun(input));
  expect(others).toEqual({ optimizer: "sgd", serverOptimizer: "adam", batchSize: 24, warmupSteps: 2 });
  expect(rates.map(({ lr }) => lr)).toEqual([0.1, 0.07, 0.04].map((lr) => expect.closeTo(lr, 12) as number));
  expect(rates[2]).toEqual({ lr: expect.closeTo(0.04, 12), lrB: expect.closeTo(0.16, 12), headLr: expect.closeTo(0.12, 12) });
});
