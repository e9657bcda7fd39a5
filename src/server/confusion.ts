import type { ExampleValues } from "../protocol/example-values.ts";
import type { Confusion } from "../records/metrics.ts";

/** With more cells that are not empty, the most frequent are kept, so that a round's line stays short; all of 31 labels fit. */
const MOST_CELLS = 1000;

/** How often each label was predicted for each, as [actual, predicted, examples], in the order of the labels. */
export function confusionOf({ predicted, actual }: NonNullable<ExampleValues["labels"]>): Confusion["cells"] {
  const cells = new Map<string, [actual: number, predicted: number, examples: number]>();
  for (const [example, label] of actual.entries()) {
    const other = predicted[example] as number;
    const name = `${label}/${other}`;
    const cell = cells.get(name) ?? [label, other, 0];
    cell[2]++;
    cells.set(name, cell);
  }
  return [...cells.values()]
    .toSorted((a, b) => b[2] - a[2] || a[0] - b[0] || a[1] - b[1])
    .slice(0, MOST_CELLS)
    .toSorted((a, b) => a[0] - b[0] || a[1] - b[1]);
}
