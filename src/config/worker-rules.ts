import type { Rule } from "./rule.ts";

/* Rules on workers and on when a round closes. */

const oneNumberOfWorkers: Rule = {
  reads: ["workers.count", "workers.slotsPerDevice"],
  check({ workers: { count, slotsPerDevice } }, report) {
    if (count === undefined || slotsPerDevice === undefined) return;
    const message = "cannot be combined with workers.count, the total number of workers: set only one of them";
    report(["workers", "slotsPerDevice"], message);
  },
};

const noIdleDevice: Rule = {
  reads: ["workers.count", "workers.devices"],
  check({ workers: { count, devices } }, report) {
    if (count === undefined || devices === "auto" || count >= devices.length) return;
    report(["workers", "count"], `must be at least ${devices.length}, one worker for each of workers.devices, got ${count}`);
  },
};

const quorumIsEnough: Rule = {
  reads: ["closing"],
  check({ closing: { quorum, enough } }, report) {
    if (quorum === undefined || enough === undefined || quorum <= enough) return;
    report(["closing", "enough"], `must be at least closing.quorum (${quorum}), got ${enough}`);
  },
};

export const workerRules: readonly Rule[] = [quorumIsEnough, oneNumberOfWorkers, noIdleDevice];
