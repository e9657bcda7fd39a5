import { EVENT_VERSION } from "../../server/events.ts";
import { visibleJson } from "../../report/visible.ts";
import type { Reporter, ReporterOptions } from "./reporter.ts";

/** One event per line: the object of the TypeScript API with the version of its shape. */
export function jsonReporter({ stream }: ReporterOptions): Reporter {
  return {
    event: (event) => void stream.write(`${visibleJson({ version: EVENT_VERSION, ...event })}\n`),
    close() {},
  };
}
