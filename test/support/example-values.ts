import type { ExampleColumn, ExamplesHeader, ExampleValues } from "../../src/protocol/example-values.ts";

type Given = Pick<ExampleValues, "loss" | "targets"> & Partial<ExampleValues>;

/** Without what is left out. */
export function exampleValues(given: Given): ExampleValues {
  return {
    bytes: undefined,
    labels: undefined,
    confidence: undefined,
    positives: undefined,
    numbers: undefined,
    rougeL: undefined,
    metrics: [],
    ...given,
  };
}

/** The tensor `examples` of columns, each with the values of all ranks, and what announces it. */
export function examplesTensor(
  columns: Readonly<Partial<Record<ExampleColumn, readonly number[]>>>,
  metrics: Readonly<Record<string, readonly number[]>> = {},
): { readonly header: ExamplesHeader; readonly shape: readonly number[]; readonly bytes: Uint8Array } {
  const rows = [...Object.values(columns), ...Object.values(metrics)];
  const values = Float64Array.from(rows.flat());
  const header = { columns: Object.keys(columns) as ExampleColumn[], metrics: Object.keys(metrics) };
  return { header, shape: [rows.length, values.length / rows.length], bytes: new Uint8Array(values.buffer) };
}
