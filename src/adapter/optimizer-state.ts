import type { AdapterLayout } from "./layout.ts";

/**
 * Number of values in the state of a client's optimizer after a fit at rank r. It holds parameter by parameter, A and B of every
 * module and then the dense ones, how many steps the optimizer has made with it (sgd does not count), and what it remembers of it:
 * Adam two values for each of its values, sgd one, Adafactor one for each row and for each column.
 */
export function stateLength({ name }: { readonly name: string }, { width, modules, dense, denseSize }: AdapterLayout, r: number): number {
  const values = r * width + denseSize;
  if (name === "sgd") return values;
  const counts = 2 * modules.length + dense.length;
  if (name === "adamw") return 2 * values + counts;
  const ofModules = modules.reduce((sum, module) => sum + (r + module.in) + (module.out + r), 0);
  return counts + ofModules + dense.reduce((sum, { shape }) => sum + rowsAndColumns(shape), 0);
}

/** Of a vector, its values. */
function rowsAndColumns(shape: readonly number[]): number {
  const sizeOf = (sides: readonly number[]) => sides.reduce((product, side) => product * side, 1);
  return shape.length < 2 ? sizeOf(shape) : sizeOf(shape.slice(0, -1)) + sizeOf(shape.toSpliced(-2, 1));
}
