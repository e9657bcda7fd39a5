import { afterAll, beforeAll } from "vitest";
import { createPool, type CreatePoolOptions, type FederateOptions, type SharedPool } from "../../src/index.ts";

/** Workers for the runs of a test file or of one `describe`, which start Python once for all of them. */
export function sharedWorkers({ workers, launcher }: CreatePoolOptions = {}): () => SharedPool {
  let pool: SharedPool | undefined;
  beforeAll(async () => {
    pool = await createPool({ workers: { count: 1, devices: ["cpu"], ...workers }, ...(launcher && { launcher }) });
  });
  afterAll(() => pool?.close());
  return () => {
    if (pool) return pool;
    throw new Error("the workers start before the first test");
  };
}

/** A run on the workers of a pool instead of its own. */
export function onPool(options: FederateOptions, pool: SharedPool): FederateOptions {
  const { workers: _, ...others } = options;
  return { ...others, pool };
}
