import { expect, test } from "vitest";
import { createDeferred } from "../../../src/base/deferred.ts";
import { endJob } from "../../../src/ray/end-job.ts";
import type { JobsApi, JobStatus } from "../../../src/ray/jobs-api.ts";
import { RayError } from "../../../src/ray/ray-error.ts";

const running: JobStatus = { status: "RUNNING", message: "", hasEnded: false };
const noDriver = { askDriver: () => Promise.reject(new Error("not joined")), withinMs: 2000 };

/** A job of which Ray tells this, one answer after the other and the last one from then on, until it is stopped. */
function scriptedApi(answers: readonly (JobStatus | undefined | RayError)[]) {
  const asked = { looks: 0, stops: 0 };
  const api = {
    async status() {
      const answer = answers[Math.min(asked.looks++, answers.length - 1)];
      if (answer instanceof RayError) throw answer;
      return asked.stops > 0 && answer ? { ...answer, status: "STOPPED", hasEnded: true } : answer;
    },
    async stop() {
      asked.stops++;
    },
  } as unknown as JobsApi;
  return { api, asked };
}

test("a job whose submit is under way, and which Ray does not know yet, is stopped once Ray knows it", async () => {
  const { api, asked } = scriptedApi([undefined, undefined, running]);
  await endJob(api, "prelort-1", { ...noDriver, submitted: createDeferred<boolean>().promise });
  expect(asked.stops).toBe(1);
});

test("a job is stopped even if Ray answers one request with an error", async () => {
  const { api, asked } = scriptedApi([new RayError("unexpected", { status: 500, isPassing: true }), running]);
  await endJob(api, "prelort-1", { ...noDriver, submitted: Promise.resolve(true) });
  expect(asked.stops).toBe(1);
});

test("nothing is waited for where Ray cannot be reached, or does not know the job", async () => {
  for (const answer of [new RayError("nothing listens", { isPassing: true }), undefined]) {
    const { api, asked } = scriptedApi([answer]);
    await endJob(api, "prelort-1", { ...noDriver, submitted: Promise.resolve(true) });
    expect(asked.looks).toBe(1);
  }
});
