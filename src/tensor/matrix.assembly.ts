/*
 * AssemblyScript, not TypeScript: `npm run build` compiles it to WebAssembly and writes the bytes into matrix.wasm.ts;
 * matrix-kernel.ts is its only user. Matrices are float64, row by row; arguments are addresses in memory and counts of values.
 */

/** x·y over `count` values: those at even places and those at odd ones are added up apart. */
function dot(x: usize, y: usize, count: i32): f64 {
  let first = f64x2.splat(0);
  let second = f64x2.splat(0);
  let index = 0;
  for (; index + 4 <= count; index += 4, x += 32, y += 32) {
    first = f64x2.add(first, f64x2.mul(v128.load(x), v128.load(y)));
    second = f64x2.add(second, f64x2.mul(v128.load(x, 16), v128.load(y, 16)));
  }
  first = f64x2.add(first, second);
  let sum = f64x2.extract_lane(first, 0) + f64x2.extract_lane(first, 1);
  for (; index < count; index++, x += 8, y += 8) sum += load<f64>(x) * load<f64>(y);
  return sum;
}

/**
 * out[i, j] += Σ_k x[i, k]·y[j, k] for x [rows, length], y [columns, length] and a part of a matrix with `stride` values a row.
 * `rows` is a multiple of 4, `columns` and `length` are even.
 */
export function addProducts(x: usize, y: usize, out: usize, rows: i32, columns: i32, length: i32, stride: i32): void {
  const line: usize = 8 * length;
  for (let i = 0; i < rows; i += 4, x += 4 * line, out += 32 * stride) {
    let yAt = y;
    let target = out;
    for (let j = 0; j < columns; j += 2, yAt += 2 * line, target += 16) {
      let c00 = f64x2.splat(0),
        c01 = f64x2.splat(0),
        c10 = f64x2.splat(0),
        c11 = f64x2.splat(0);
      let c20 = f64x2.splat(0),
        c21 = f64x2.splat(0),
        c30 = f64x2.splat(0),
        c31 = f64x2.splat(0);
      let x0 = x,
        x1 = x + line,
        x2 = x + 2 * line,
        x3 = x + 3 * line;
      let y0 = yAt,
        y1 = yAt + line;
      const end = x + line;
      for (; x0 < end; x0 += 16, x1 += 16, x2 += 16, x3 += 16, y0 += 16, y1 += 16) {
        const u = v128.load(y0);
        const v = v128.load(y1);
        const a = v128.load(x0);
        c00 = f64x2.add(c00, f64x2.mul(a, u));
        c01 = f64x2.add(c01, f64x2.mul(a, v));
        const b = v128.load(x1);
        c10 = f64x2.add(c10, f64x2.mul(b, u));
        c11 = f64x2.add(c11, f64x2.mul(b, v));
        const c = v128.load(x2);
        c20 = f64x2.add(c20, f64x2.mul(c, u));
        c21 = f64x2.add(c21, f64x2.mul(c, v));
        const d = v128.load(x3);
        c30 = f64x2.add(c30, f64x2.mul(d, u));
        c31 = f64x2.add(c31, f64x2.mul(d, v));
      }
      addPair(target, c00, c01);
      addPair(target + 8 * stride, c10, c11);
      addPair(target + 16 * stride, c20, c21);
      addPair(target + 24 * stride, c30, c31);
    }
  }
}

function addPair(target: usize, first: v128, second: v128): void {
  const even = v128.shuffle<f64>(first, second, 0, 2);
  const odd = v128.shuffle<f64>(first, second, 1, 3);
  v128.store(target, f64x2.add(v128.load(target), f64x2.add(even, odd)));
}

/**
 * The lower factor C of a symmetric positive semidefinite matrix = C·Cᵀ [n, n], in place of its lower half. A row that those
 * before it span, up to the share `negligible` of its square, becomes a column of zeros.
 */
export function factorise(matrix: usize, n: i32, negligible: f64): void {
  const line: usize = 8 * n;
  for (let i = 0; i < n; i++) {
    const row = matrix + line * i;
    const whole = load<f64>(row + 8 * i);
    for (let j = 0; j < i; j++) {
      const other = matrix + line * j;
      const pivot = load<f64>(other + 8 * j);
      const value = pivot > 0 ? (load<f64>(row + 8 * j) - dot(row, other, j)) / pivot : 0;
      store<f64>(row + 8 * j, value);
    }
    const rest = whole - dot(row, row, i);
    store<f64>(row + 8 * i, rest > negligible * whole ? sqrt(rest) : 0);
  }
}

/**
 * Householder's reduction of the symmetric matrix [n, n], of which the lower half is read, to a tridiagonal one with the same
 * eigenvalues: `diagonal` [n], and in `beside` [n] the value left of each. Row i of the matrix becomes the vector v of the
 * reflection I − v·vᵀ / halves[i] of its first i places; none if halves[i] is 0. `work` holds n values.
 */
export function tridiagonalise(matrix: usize, n: i32, diagonal: usize, beside: usize, halves: usize, work: usize): void {
  const line: usize = 8 * n;
  for (let i = n - 1; i >= 0; i--) {
    const v = matrix + line * i;
    store<f64>(diagonal + 8 * i, load<f64>(v + 8 * i));
    const last = i > 0 ? load<f64>(v + 8 * (i - 1)) : 0;
    const others = i > 1 ? dot(v, v, i - 1) : 0;
    store<f64>(beside + 8 * i, last);
    store<f64>(halves + 8 * i, 0);
    if (others == 0) continue;
    const square = others + last * last;
    const reflected = last > 0 ? -sqrt(square) : sqrt(square);
    const half = square - last * reflected;
    store<f64>(beside + 8 * i, reflected);
    store<f64>(halves + 8 * i, half);
    store<f64>(v + 8 * (i - 1), last - reflected);
    multiply(matrix, n, i, v, work);
    const factor = 1 / half;
    const share = 0.5 * factor * factor * dot(work, v, i);
    for (let j = 0; j < i; j++) {
      store<f64>(work + 8 * j, factor * load<f64>(work + 8 * j) - share * load<f64>(v + 8 * j));
    }
    for (let j = 0; j < i; j++) subtractOuter(matrix + line * j, j + 1, v, work, load<f64>(v + 8 * j), load<f64>(work + 8 * j));
  }
}

/** product = M·v for the leading [size, size] of the symmetric matrix, of which the lower half is read, two rows at a time. */
function multiply(matrix: usize, n: i32, size: i32, v: usize, product: usize): void {
  const line: usize = 8 * n;
  memory.fill(product, 0, 8 * size);
  let i = 0;
  for (; i + 2 <= size; i += 2) {
    const a = matrix + line * i;
    const b = a + line;
    const va = load<f64>(v + 8 * i);
    const vb = load<f64>(v + 8 * i + 8);
    const vas = f64x2.splat(va);
    const vbs = f64x2.splat(vb);
    let sumA = f64x2.splat(0);
    let sumB = f64x2.splat(0);
    // i is even, and so are all pairs of places before it.
    for (let j: usize = 0; j < <usize>(8 * i); j += 16) {
      const x = v128.load(a + j);
      const y = v128.load(b + j);
      const w = v128.load(v + j);
      sumA = f64x2.add(sumA, f64x2.mul(x, w));
      sumB = f64x2.add(sumB, f64x2.mul(y, w));
      v128.store(product + j, f64x2.add(v128.load(product + j), f64x2.add(f64x2.mul(x, vas), f64x2.mul(y, vbs))));
    }
    const corner = load<f64>(b + 8 * i);
    const ownA = load<f64>(a + 8 * i) * va + corner * vb;
    const ownB = corner * va + load<f64>(b + 8 * i + 8) * vb;
    store<f64>(product + 8 * i, f64x2.extract_lane(sumA, 0) + f64x2.extract_lane(sumA, 1) + ownA);
    store<f64>(product + 8 * i + 8, f64x2.extract_lane(sumB, 0) + f64x2.extract_lane(sumB, 1) + ownB);
  }
  if (i == size) return;
  const a = matrix + line * i;
  const va = load<f64>(v + 8 * i);
  store<f64>(product + 8 * i, dot(a, v, i) + load<f64>(a + 8 * i) * va);
  for (let j = 0; j < i; j++) store<f64>(product + 8 * j, load<f64>(product + 8 * j) + load<f64>(a + 8 * j) * va);
}

/** row[j] −= vi·w[j] + wi·v[j] */
function subtractOuter(row: usize, count: i32, v: usize, w: usize, vi: f64, wi: f64): void {
  const vis = f64x2.splat(vi);
  const wis = f64x2.splat(wi);
  let index = 0;
  for (; index + 2 <= count; index += 2, row += 16, v += 16, w += 16) {
    const step = f64x2.add(f64x2.mul(vis, v128.load(w)), f64x2.mul(wis, v128.load(v)));
    v128.store(row, f64x2.sub(v128.load(row), step));
  }
  if (index < count) store<f64>(row, load<f64>(row) - (vi * load<f64>(w) + wi * load<f64>(v)));
}
