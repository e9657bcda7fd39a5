import type { CommonConfig } from "./sections.ts";
import type { Path } from "./tree.ts";

export type Checked = CommonConfig & {
  readonly strategy: {
    readonly selection: unknown;
    readonly rankAssignment: unknown;
    readonly aggregation?: unknown;
    readonly serverOptimizer?: unknown;
  };
};

/** A rule that spans several keys. It is checked if everything that it `reads` is valid, whatever else is not. */
export interface Rule {
  readonly reads: readonly string[];
  check(config: Checked, report: (path: Path, message: string) => void): void;
}
