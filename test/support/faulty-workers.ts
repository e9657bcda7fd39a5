import { writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { beforeAll } from "vitest";
import { processLauncher, type WorkerLauncher } from "../../src/index.ts";
import { python, root } from "./e2e.ts";

export interface FaultyWorkers {
  readonly launcher: WorkerLauncher;
  /** From now on every worker has these faults, as the fixture names them, also one that has been running for long. */
  setFaults(faults: object): void;
}

/** Workers of test/fixtures/faulty_worker.py, at first without a fault. */
export function faultyWorkers(folder: () => string): FaultyWorkers {
  const setFaults = (faults: object) => {
    const file = path.join(folder(), "faults.json");
    writeFileSync(file, JSON.stringify(faults));
    process.env["PRELORT_TEST_FAULTS"] = file;
  };
  beforeAll(() => setFaults({}));
  const args = [path.join(root, "test/fixtures/faulty_worker.py")];
  return { launcher: processLauncher({ command: python, args }), setFaults };
}
