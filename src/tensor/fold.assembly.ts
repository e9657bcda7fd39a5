/*
 * AssemblyScript, not TypeScript: `npm run build` compiles it to WebAssembly and writes the bytes into fold.wasm.ts. The
 * same arithmetic as plain-fold-kernel.ts, four values at a time; simd-fold-kernel.ts is its only user. WebAssembly has no
 * fused multiply-add, so both give the same bytes.
 *
 * Memory, by address: BLOCK float32 (the current block), the block in its wire encoding, then the float64 integers. A block of
 * integers takes the place of both.
 */

/** Values in a block; a whole number of int8 groups. */
export const BLOCK: i32 = 16384;
/** Values that share one scale. */
const GROUP: i32 = 256;
/** Address of a block's bytes in their wire encoding. */
export const ENCODED: i32 = 4 * BLOCK;
/** Address of the integers: after the longest encoding of a block, which is float32. */
export const INTEGERS: i32 = 8 * BLOCK;

export function decodeBfloat16(count: i32): void {
  const whole = count & ~7;
  for (let index = 0; index < whole; index += 8) {
    const halves = v128.load(ENCODED + 2 * index);
    v128.store(4 * index, i32x4.shl(i32x4.extend_low_i16x8_u(halves), 16));
    v128.store(4 * index, i32x4.shl(i32x4.extend_high_i16x8_u(halves), 16), 16);
  }
  for (let index = whole; index < count; index++) store<u32>(4 * index, (<u32>load<u16>(ENCODED + 2 * index)) << 16);
}

/** Also decodes up to the next multiple of four beyond the last value; nobody reads that. */
export function decodeFloat16(count: i32): void {
  const exponentBits = i32x4.splat(0x7c00);
  for (let index = 0; index < count; index += 4) {
    const bits = v128.load16x4_u(ENCODED + 2 * index);
    const exponent = v128.and(bits, exponentBits);
    const magnitude = v128.and(bits, i32x4.splat(0x7fff));
    const normal = i32x4.add(i32x4.shl(magnitude, 13), i32x4.splat(112 << 23));
    // Infinity and NaN: the largest exponent of float16 becomes that of float32.
    const special = v128.or(normal, v128.and(i32x4.eq(exponent, exponentBits), i32x4.splat(0x7f800000)));
    // With exponent 0 it counts units of 2^-24.
    const subnormal = f32x4.mul(f32x4.convert_i32x4_u(magnitude), f32x4.splat(reinterpret<f32>(0x33800000)));
    const size = v128.bitselect(subnormal, special, i32x4.eq(exponent, i32x4.splat(0)));
    v128.store(4 * index, v128.or(size, i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16)));
  }
}

/** Groups of a float32 scale and up to GROUP int8. */
export function decodeInt8(count: i32): void {
  let source = ENCODED;
  for (let start = 0; start < count; start += GROUP) {
    const scale = load<f32>(source);
    const scales = f32x4.splat(scale);
    source += 4;
    const end = min(start + GROUP, count);
    const whole = end & ~7;
    let index = start;
    for (; index < whole; index += 8, source += 8) {
      const steps = v128.load8x8_s(source);
      v128.store(4 * index, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(steps)), scales));
      v128.store(4 * index, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(steps)), scales), 16);
    }
    for (; index < end; index++, source++) store<f32>(4 * index, <f32>load<i8>(source) * scale);
  }
}

/** Index of the first value of the block outside [-largest, largest], including NaN; -1 if there is none. */
export function firstBeyond(count: i32, largest: f32): i32 {
  const limit = f32x4.splat(largest);
  const whole = count & ~3;
  let isWithin = i32x4.splat(-1);
  for (let index = 0; index < whole; index += 4) isWithin = v128.and(isWithin, f32x4.le(f32x4.abs(v128.load(4 * index)), limit));
  for (let index = i32x4.all_true(isWithin) ? whole : 0; index < count; index++) {
    if (!(abs(load<f32>(4 * index)) <= largest)) return index;
  }
  return -1;
}

/** Turns packed integers of `width` bytes, at address 0, into float64 in the same place. */
export function widen(count: i32, width: i32): void {
  const shift: i64 = 64 - 8 * width;
  // From the last on: what is read ends where the one after it has been written, at the latest.
  for (let index = count - 1; index >= 0; index--) {
    store<f64>(8 * index, <f64>((load<i64>(index * width) << shift) >> shift));
  }
}

/** Index of the first of a block of float64 that is not an integer in [-largest, largest]; -1 if there is none. */
export function firstImpossible(count: i32, largest: f64): i32 {
  const limit = f64x2.splat(largest);
  const whole = count & ~1;
  let isPossible = i64x2.splat(-1);
  for (let index = 0; index < whole; index += 2) {
    const values = v128.load(8 * index);
    const isWhole = f64x2.eq(f64x2.trunc(values), values);
    isPossible = v128.and(isPossible, v128.and(isWhole, f64x2.le(f64x2.abs(values), limit)));
  }
  for (let index = i64x2.all_true(isPossible) ? whole : 0; index < count; index++) {
    const value = load<f64>(8 * index);
    if (!(abs(value) <= largest && trunc(value) == value)) return index;
  }
  return -1;
}

/** integers[at + i] += integer[first + i] of the block. */
export function addIntegers(first: i32, count: i32, at: i32): void {
  let source = 8 * first;
  let target = INTEGERS + 8 * at;
  const end = source + 8 * count;
  const whole = source + 8 * (count & ~1);
  for (; source < whole; source += 16, target += 16) v128.store(target, f64x2.add(v128.load(target), v128.load(source)));
  for (; source < end; source += 8, target += 8) store<f64>(target, load<f64>(target) + load<f64>(source));
}

/** integers[at + i] += value[first + i]·factor, rounded to an integer; order-free-sum.ts says why, and what `rounder` is. */
export function fold(first: i32, count: i32, at: i32, factor: f64, rounder: f64): void {
  const factors = f64x2.splat(factor);
  const rounders = f64x2.splat(rounder);
  let source = 4 * first;
  let target = INTEGERS + 8 * at;
  const end = source + 4 * count;
  const whole = source + 4 * (count & ~3);
  for (; source < whole; source += 4 * 4, target += 4 * 8) {
    const values = v128.load(source);
    const low = f64x2.promote_low_f32x4(values);
    const high = f64x2.promote_low_f32x4(v128.shuffle<u64>(values, values, 1, 0));
    v128.store(target, f64x2.add(v128.load(target), f64x2.sub(f64x2.add(f64x2.mul(low, factors), rounders), rounders)));
    v128.store(target, f64x2.add(v128.load(target, 16), f64x2.sub(f64x2.add(f64x2.mul(high, factors), rounders), rounders)), 16);
  }
  for (; source < end; source += 4, target += 8) {
    store<f64>(target, load<f64>(target) + (<f64>load<f32>(source) * factor + rounder - rounder));
  }
}
