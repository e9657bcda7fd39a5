import { snakeKeys } from "../../config/case.ts";
import type { Reporter, ReporterOptions } from "./reporter.ts";

/** One event a line, its keys in snake_case as everywhere outside TypeScript. */
export function jsonReporter({ stream }: ReporterOptions): Reporter {
  return {
    event: (event) => void stream.write(`${JSON.stringify(snakeKeys(event))}\n`),
    close() {},
  };
}
