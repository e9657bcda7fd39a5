import type { Encoded } from "./encoded.ts";

/** The nearest float16 of every value, ties to even; values beyond 65504 by half a step or more become infinite. */
export function toFloat16(values: Float32Array): Encoded {
  const rounded = new Uint16Array(values.length);
  for (let index = 0; index < values.length; index++) rounded[index] = roundToFloat16(values[index] as number);
  return { dtype: "F16", length: values.length, bytes: new Uint8Array(rounded.buffer) };
}

const SMALLEST_NORMAL = 2 ** -14;
const INFINITE = 0x7c00;
const exact = new Float32Array(1);
const bits = new Uint32Array(exact.buffer);

function roundToFloat16(value: number): number {
  exact[0] = value;
  const sign = ((bits[0] as number) >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return sign | INFINITE | 0x200;
  // Multiplying by a power of two is exact. A fraction that is rounded up to the next power carries into the exponent.
  if (size < SMALLEST_NORMAL) return sign | roundHalfToEven(size * 2 ** 24);
  const exponent = (((bits[0] as number) >>> 23) & 0xff) - 127;
  if (exponent > 15) return sign | INFINITE;
  return sign | (((exponent + 14) << 10) + roundHalfToEven(size * 2 ** (10 - exponent)));
}

function roundHalfToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
