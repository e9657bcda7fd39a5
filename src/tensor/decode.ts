import { type Dtype, GROUP } from "./encoded.ts";

/** The `target.length` values that `bytes` holds. What fold.assembly.ts decodes has the same bits, but for those of a NaN. */
export function decodeInto(target: Float32Array, dtype: Dtype, bytes: Uint8Array): void {
  switch (dtype) {
    case "F32":
      new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(bytes.subarray(0, target.byteLength));
      return;
    case "BF16": {
      const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
      const halves = halvesOf(bytes);
      for (let index = 0; index < bits.length; index++) bits[index] = (halves[index] as number) << 16;
      return;
    }
    case "F16": {
      const halves = halvesOf(bytes);
      for (let index = 0; index < target.length; index++) target[index] = float16(halves[index] as number);
      return;
    }
    case "I8X256":
      return decodeGroups(target, bytes);
  }
}

function decodeGroups(target: Float32Array, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const steps = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  for (let start = 0; start < target.length; start += GROUP) {
    const scale = view.getFloat32(at, true);
    at += 4;
    const end = Math.min(start + GROUP, target.length);
    for (let index = start; index < end; index++, at++) target[index] = (steps[at] as number) * scale;
  }
}

/** Sign, five bits of exponent, ten of fraction. */
function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (exponent === 0 ? fraction : 1024 + fraction) * (UNITS[exponent] as number);
}

/** What a fraction of 1 stands for, by exponent; 0 has no leading one, and the unit of 1. */
const UNITS = Float64Array.from({ length: 31 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));

/** A view, where the bytes lie so that they can be read as such. */
function halvesOf(bytes: Uint8Array): Uint16Array {
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(buffer, byteOffset, byteLength / 2);
}
