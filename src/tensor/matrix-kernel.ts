import { matrixModule } from "./matrix.wasm.ts";
import { compileModule, type Instantiate } from "./web-assembly.ts";

/** Matrices are float64, row by row. */
export interface MatrixKernel {
  /** x·yᵀ, [m, n], for x [m, length] and y [n, length]; of x·xᵀ with `y` left out, only the lower half is right. */
  rowProducts(x: Float64Array, length: number, y?: Float64Array): Float64Array;
  /** The lower factor C of a symmetric positive semidefinite matrix = C·Cᵀ [n, n], of which the lower half is read. */
  lowerFactor(matrix: Float64Array, n: number): Float64Array;
  /** Of a symmetric matrix [n, n], of which the lower half is read. */
  tridiagonalise(matrix: Float64Array, n: number): Tridiagonal;
}

/** The symmetric matrix Q·T·Qᵀ, with T tridiagonal and Q a product of reflections. */
export interface Tridiagonal {
  /** [n] */
  readonly diagonal: Float64Array;
  /** [n]; beside[i] is T[i, i − 1]. */
  readonly beside: Float64Array;
  /** [n, n]; row i begins with the i values of v in the reflection I − v·vᵀ / halves[i]; none if halves[i] is 0. */
  readonly reflections: Float64Array;
  readonly halves: Float64Array;
}

/** What matrix.assembly.ts exports. */
interface MatrixModule {
  addProducts(x: number, y: number, out: number, rows: number, columns: number, length: number, stride: number): void;
  factorise(matrix: number, n: number, negligible: number): void;
  tridiagonalise(matrix: number, n: number, diagonal: number, beside: number, halves: number, work: number): void;
}

const instantiate = compileModule<MatrixModule>(matrixModule);

/** In WebAssembly; undefined if the machine has no vector instructions. */
export const matrixKernel = instantiate && createKernel(instantiate);

function createKernel(instantiate: Instantiate<MatrixModule>): MatrixKernel {
  return {
    rowProducts: (x, length, y) => rowProducts(instantiate, x, length, y),
    lowerFactor(matrix, n) {
      const { wasm, buffer } = instantiate(8 * n * n);
      const factor = new Float64Array(buffer, 0, n * n);
      factor.set(matrix);
      wasm.factorise(0, n, NEGLIGIBLE);
      for (let row = 0; row < n; row++) factor.fill(0, row * n + row + 1, (row + 1) * n);
      return factor;
    },
    tridiagonalise(matrix, n) {
      const { wasm, buffer } = instantiate(8 * (n * n + 4 * n));
      const [diagonal, beside, halves, work] = [0, 1, 2, 3].map((index) => 8 * (n * n + index * n)) as [number, number, number, number];
      const reflections = new Float64Array(buffer, 0, n * n);
      reflections.set(matrix);
      wasm.tridiagonalise(0, n, diagonal, beside, halves, work);
      const vector = (at: number) => new Float64Array(buffer, at, n);
      return { diagonal: vector(diagonal), beside: vector(beside), reflections, halves: vector(halves) };
    },
  };
}

/** A vector's square that earlier ones leave below this share is rounding error. */
const NEGLIGIBLE = 2 ** -44;

/** Values of a row that are multiplied at a time, and rows in a tile: a tile of either matrix stays in a core's cache. */
const BLOCK = 256;
const TILE = 64;

function rowProducts(instantiate: Instantiate<MatrixModule>, x: Float64Array, length: number, y = x): Float64Array {
  const isSquare = x === y;
  const [m, n] = [x.length / length, y.length / length];
  const [rows, columns] = [roundUp(m), roundUp(n)];
  const yAt = 8 * BLOCK * (isSquare ? 0 : rows);
  const outAt = 8 * BLOCK * (isSquare ? rows : rows + columns);
  const { wasm, buffer } = instantiate(outAt + 8 * rows * columns);
  const blocks = { x: new Float64Array(buffer, 0, rows * BLOCK), y: new Float64Array(buffer, yAt, columns * BLOCK) };
  for (let from = 0; from < length; from += BLOCK) {
    take(blocks.x, x, length, from);
    if (!isSquare) take(blocks.y, y, length, from);
    for (let row = 0; row < rows; row += TILE) {
      for (let column = 0; column < (isSquare ? row + 1 : columns); column += TILE) {
        const out = outAt + 8 * (row * columns + column);
        const [high, wide] = [Math.min(TILE, rows - row), Math.min(TILE, columns - column)];
        wasm.addProducts(8 * BLOCK * row, yAt + 8 * BLOCK * column, out, high, wide, BLOCK, columns);
      }
    }
  }
  const products = new Float64Array(m * n);
  for (let row = 0; row < m; row++) products.set(new Float64Array(buffer, outAt + 8 * row * columns, n), row * n);
  return products;
}

/** Values [from, from + BLOCK) of every row, with zeros after the end. */
function take(block: Float64Array, matrix: Float64Array, length: number, from: number): void {
  const count = Math.min(BLOCK, length - from);
  if (count < BLOCK) block.fill(0);
  for (let row = 0; row * length < matrix.length; row++) {
    const start = row * length + from;
    block.set(matrix.subarray(start, start + count), row * BLOCK);
  }
}

/** To a whole number of the rows that are multiplied together. */
function roundUp(count: number): number {
  return 4 * Math.ceil(count / 4);
}
