import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRng, deriveSeed } from "../../../src/base/rng.ts";
import { gramSvds } from "../../../src/tensor/gram-svd.ts";
import { type MatrixKernel, matrixKernel } from "../../../src/tensor/matrix-kernel.ts";
import { MANY, partialSvds, type ProductSvd, productSvd, type Stack } from "../../../src/tensor/product-svd.ts";
import { largestEigenpairs } from "../../../src/tensor/symmetric-eigen.ts";

// Every machine on which these tests run has vector instructions.
const kernel = matrixKernel as MatrixKernel;

function draw(seed: number): (length: number) => Float64Array {
  const rng = createRng(deriveSeed(seed));
  return (length) => Float64Array.from({ length }, () => rng.next() - 0.5);
}

const range = (count: number) => Array.from({ length: count }, (_, index) => index);

describe("the matrix kernel", () => {
  const sizes = fc.record({
    m: fc.integer({ min: 1, max: 70 }),
    n: fc.integer({ min: 1, max: 70 }),
    length: fc.integer({ min: 1, max: 600 }),
    seed: fc.nat(),
  });
  it("multiplies the rows of two matrices, or of one", () => {
    fc.assert(
      fc.property(sizes, ({ m, n, length, seed }) => {
        const random = draw(seed);
        const [x, y] = [random(m * length), random(n * length)];
        const product = (a: Float64Array, i: number, b: Float64Array, j: number) =>
          range(length).reduce((sum, k) => sum + a[i * length + k]! * b[j * length + k]!, 0);
        const found = kernel.rowProducts(x, length, y);
        const square = kernel.rowProducts(x, length);
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) expect(found[i * n + j]).toBeCloseTo(product(x, i, y, j), 10);
          for (let j = 0; j <= i; j++) expect(square[i * m + j]).toBeCloseTo(product(x, i, x, j), 10);
        }
      }),
      { numRuns: 20 },
    );
  });

  it("factorises a semidefinite matrix, with a column of zeros for a row that others span", () => {
    // Rows (1, 2), (2, 4), (0, 3).
    const factor = kernel.lowerFactor(Float64Array.of(5, 0, 0, 10, 20, 0, 6, 12, 9), 3);
    const expected = [Math.sqrt(5), 0, 0, 2 * Math.sqrt(5), 0, 0, 6 / Math.sqrt(5), 0, 3 / Math.sqrt(5)];
    factor.forEach((value, index) => expect(value).toBeCloseTo(expected[index]!, 12));
  });
});

describe("largestEigenpairs", () => {
  it("finds eigenvalues that are equal, with orthogonal vectors", () => {
    const spectrum = [5, 5, 5, 2, 2, 0, 0];
    const { values, vectors } = eigenOf(rotated(spectrum, 1), spectrum.length, 5);
    [5, 5, 5, 2, 2].forEach((value, index) => expect(values[index]).toBeCloseTo(value, 12));
    expectOrthonormal(vectors, spectrum.length);
  });

  it("finds those of a diagonal matrix, which needs no reduction, and of a zero one", () => {
    const { values, vectors } = eigenOf(Float64Array.of(1, 0, 0, 0, 4, 0, 0, 0, 4), 3, 3);
    expect([...values].map((value) => Number(value.toFixed(12)))).toEqual([4, 4, 1]);
    expectOrthonormal(vectors, 3);
    expect([...eigenOf(new Float64Array(9), 3, 2).values]).toEqual([0, 0]);
  });

  const spectra = fc.record({
    values: fc.array(fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 1, 0.5, 1e-9)), {
      minLength: 1,
      maxLength: 40,
    }),
    seed: fc.nat(),
  });
  it("finds the values that a matrix was made from, and vectors that it only stretches", () => {
    fc.assert(
      fc.property(spectra, ({ values: spectrum, seed }) => {
        const n = spectrum.length;
        const matrix = rotated(spectrum, seed);
        const { values, vectors } = eigenOf(matrix, n, n);
        spectrum.toSorted((a, b) => b - a).forEach((value, index) => expect(values[index]).toBeCloseTo(value, 11));
        expectOrthonormal(vectors, n);
        for (const index of range(n)) {
          for (const i of range(n)) {
            const image = range(n).reduce((sum, j) => sum + matrix[i * n + j]! * vectors[index * n + j]!, 0);
            expect(image).toBeCloseTo(values[index]! * vectors[index * n + i]!, 10);
          }
        }
      }),
    );
  });

  function eigenOf(matrix: Float64Array, n: number, most: number) {
    return largestEigenpairs(kernel, matrix, n, most);
  }

  /** A symmetric matrix with these eigenvalues: Q·diag·Qᵀ with Q a product of three reflections. */
  function rotated(spectrum: readonly number[], seed: number): Float64Array {
    const n = spectrum.length;
    const random = draw(seed);
    let matrix = Float64Array.from({ length: n * n }, (_, index) => (index % (n + 1) === 0 ? spectrum[index / (n + 1)]! : 0));
    for (let turn = 0; turn < 3; turn++) {
      const v = random(n);
      const square = v.reduce((sum, value) => sum + value ** 2, 0);
      const entry = (i: number, j: number) => (i === j ? 1 : 0) - (2 * v[i]! * v[j]!) / square;
      const times = (x: (i: number, j: number) => number, y: (i: number, j: number) => number) =>
        Float64Array.from({ length: n * n }, (_, at) => range(n).reduce((sum, k) => sum + x(Math.floor(at / n), k) * y(k, at % n), 0));
      const before = matrix;
      const half = times(entry, (i, j) => before[i * n + j]!);
      matrix = times((i, j) => half[i * n + j]!, entry);
    }
    return matrix;
  }

  function expectOrthonormal(vectors: Float64Array, n: number): void {
    for (let i = 0; i * n < vectors.length; i++) {
      for (let j = 0; j <= i; j++) {
        const product = range(n).reduce((sum, k) => sum + vectors[i * n + k]! * vectors[j * n + k]!, 0);
        expect(product).toBeCloseTo(i === j ? 1 : 0, 12);
      }
    }
  }
});

function gramSvd(left: Stack, right: Stack, most: number): ProductSvd {
  return gramSvds(kernel, left, right, [{ count: left.vectors.length / left.length, most }])[0]!;
}

describe("gramSvds", () => {
  const sums = fc.record({
    count: fc.integer({ min: 1, max: 30 }),
    out: fc.integer({ min: 30, max: 50 }),
    in: fc.integer({ min: 30, max: 50 }),
    /** How much vectors differ from one of the first three, like clients that start from the same A. */
    spread: fc.constantFrom(1, 1e-2, 1e-4, 0),
    seed: fc.nat(),
  });
  it("agrees to 1e-6 of the largest singular value with the SVD by QR, at every rank whose singular values are distinct", () => {
    fc.assert(
      fc.property(sums, ({ count, out, in: a, spread, seed }) => {
        const random = draw(seed);
        const alike = (length: number) => {
          const [common, own] = [random(3 * length), random(count * length)];
          return { vectors: own.map((value, index) => common[index % (3 * length)]! + spread * value), length };
        };
        const [left, right] = [alike(out), alike(a)];
        const [found, expected] = [gramSvd(left, right, count), productSvd(left, right, count)];
        const size = expected.values[0]!;
        for (let r = 1; r <= expected.values.length; r++) {
          const value = expected.values[r - 1]!;
          expect(Math.abs((found.values[r - 1] ?? 0) - value) / size).toBeLessThan(1e-6);
          if ((value - (expected.values[r] ?? 0)) / size < 1e-3 && r < expected.values.length) continue;
          for (const [i, j] of [
            [0, 0],
            [out - 1, a - 1],
            [out >> 1, a >> 1],
          ] as const) {
            const entry = ({ values, left: u, right: v }: typeof found) =>
              range(Math.min(r, values.length)).reduce((sum, c) => sum + values[c]! * u[c * out + i]! * v[c * a + j]!, 0);
            expect(Math.abs(entry(found) - entry(expected)) / size).toBeLessThan(1e-6);
          }
        }
      }),
    );
  });

  it("finds those of sums of the first products as if there were no others", () => {
    for (const [count, out, a] of [
      [12, 12, 20],
      [9, 30, 30],
    ] as const) {
      const random = draw(count);
      const [left, right] = [
        { vectors: random(count * out), length: out },
        { vectors: random(count * a), length: a },
      ];
      const parts = [2, 5, count].map((first) => ({ count: first, most: 4 }));
      for (const together of [gramSvds(kernel, left, right, parts), partialSvds(left, right, parts)]) {
        for (const [index, { count: first, most }] of parts.entries()) {
          const part = ({ vectors, length }: Stack) => ({ vectors: vectors.subarray(0, first * length), length });
          const alone = productSvd(part(left), part(right), most);
          expect(together[index]!.values).toHaveLength(Math.min(first, most));
          alone.values.forEach((value, c) => expect(together[index]!.values[c]).toBeCloseTo(value, 9));
          alone.left.forEach((value, at) => expect(Math.abs(together[index]!.left[at]!)).toBeCloseTo(Math.abs(value), 6));
          alone.right.forEach((value, at) => expect(Math.abs(together[index]!.right[at]!)).toBeCloseTo(Math.abs(value), 6));
        }
      }
    }
  });

  it("finds nothing in products that cancel, or in zeros", () => {
    const [one, other] = [Float64Array.of(1, 2, 3), Float64Array.of(4, 5, 6)];
    const left = { vectors: Float64Array.of(...one, ...one.map((value) => -value)), length: 3 };
    const right = { vectors: Float64Array.of(...other, ...other), length: 3 };
    expect(gramSvd(left, right, 2).values).toHaveLength(0);
    expect(gramSvd({ vectors: new Float64Array(6), length: 3 }, right, 2).values).toHaveLength(0);
  });

  it("finds the same whatever the size of the values, also in a small sum beside a large one", () => {
    const random = draw(3);
    const [left, right] = [30, 40].map((length) => ({ vectors: random(20 * length), length })) as [Stack, Stack];
    const times = ({ vectors, length }: Stack, factor: number, from = 0) => ({
      vectors: vectors.map((value, index) => (index < from * length ? value : factor * value)),
      length,
    });
    const expected = gramSvd(left, right, 20);
    for (const [a, b] of [
      [2 ** -66, 2 ** -66],
      [2 ** 66, 2 ** 66],
      [2 ** -140, 1],
      [2 ** 120, 2 ** 120],
    ] as const) {
      const found = gramSvd(times(left, a), times(right, b), 20);
      expect(found.values).toEqual(expected.values.map((value) => value * a * b));
      expect([found.left, found.right]).toEqual([expected.left, expected.right]);
    }
    const parts = [{ count: 10, most: 10 }];
    const [[small], [alone]] = [times(left, 2 ** 140, 10), left].map((each) => gramSvds(kernel, each, right, parts)) as [
      ProductSvd[],
      ProductSvd[],
    ];
    expect(small).toEqual(alone);
    const tiny = gramSvds(kernel, times(times(left, 2 ** -140), 2 ** 140, 10), right, parts)[0]!;
    expect(tiny.values).toEqual(alone!.values.map((value) => value * 2 ** -140));
  });

  it("is what productSvd uses for many long vectors, and reproduces their sum", () => {
    const random = draw(5);
    const length = MANY + 8;
    const [left, right] = [0, 1].map(() => ({ vectors: random(MANY * length), length })) as [Stack, Stack];
    const found = productSvd(left, right, 3);
    expect(found).toEqual(gramSvd(left, right, 3));
    expect(found.values).toHaveLength(3);
    // M·v = σ·u
    for (const c of range(3)) {
      const shares = range(MANY).map((m) =>
        range(length).reduce((sum, j) => sum + right.vectors[m * length + j]! * found.right[c * length + j]!, 0),
      );
      for (const i of [0, 100, length - 1]) {
        const image = shares.reduce((sum, share, m) => sum + share * left.vectors[m * length + i]!, 0);
        expect(image / found.values[0]!).toBeCloseTo((found.values[c]! * found.left[c * length + i]!) / found.values[0]!, 9);
      }
    }
  });
});
