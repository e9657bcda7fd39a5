import { bytesOf, type Dtype, encodedBytes } from "./encoded.ts";
import { foldModule } from "./fold.wasm.ts";
import { BLOCK, type Lane, ROUNDER } from "./fold-kernel.ts";
import { compileModule, type Instantiate } from "./web-assembly.ts";

/** In WebAssembly, each lane with its own memory; undefined if the machine has no vector instructions. */
const instantiate = compileModule<FoldModule>(foldModule);
export const createSimdLane = instantiate && ((length: number): Lane => createLane(instantiate, length));

/** What fold.assembly.ts exports. */
interface FoldModule {
  readonly BLOCK: { readonly value: number };
  /** Addresses. */
  readonly ENCODED: { readonly value: number };
  readonly INTEGERS: { readonly value: number };
  decodeBfloat16(count: number): void;
  decodeFloat16(count: number): void;
  decodeInt8(count: number): void;
  firstBeyond(count: number, largest: number): number;
  widen(count: number, width: number): void;
  firstImpossible(count: number, largest: number): number;
  addIntegers(first: number, count: number, at: number): void;
  fold(first: number, count: number, at: number, factor: number, rounder: number): void;
}

function createLane(instantiate: Instantiate<FoldModule>, length: number): Lane {
  // Twice a block of float32, and the integers, in accordance with the addresses in fold.assembly.ts.
  const { wasm, buffer } = instantiate(2 * 4 * BLOCK + 8 * length);
  const values = new Float32Array(buffer, 0, BLOCK);
  const taken = new Float64Array(buffer, 0, BLOCK);
  const encodedAt: Record<Dtype, number> = { F32: 0, BF16: wasm.ENCODED.value, F16: wasm.ENCODED.value, I8X256: wasm.ENCODED.value };
  const decode: Record<Dtype, (count: number) => void> = {
    F32: () => {},
    BF16: wasm.decodeBfloat16,
    F16: wasm.decodeFloat16,
    I8X256: wasm.decodeInt8,
  };
  const target = new Uint8Array(buffer);
  let count = 0;
  return {
    integers: new Float64Array(buffer, wasm.INTEGERS.value, length),
    take(encoded, from, to) {
      count = to - from;
      target.set(bytesOf(encoded, from, to), encodedAt[encoded.dtype]);
      decode[encoded.dtype](count);
    },
    firstBeyond(largest) {
      const index = wasm.firstBeyond(count, floorToFloat32(largest));
      return index < 0 ? undefined : { index, value: values[index] as number };
    },
    takeIntegers(encoded, from, to) {
      count = to - from;
      const width = encodedBytes(encoded.dtype, 1);
      target.set(encoded.bytes.subarray(from * width, to * width));
      if (encoded.dtype !== "F64") wasm.widen(count, width);
    },
    firstImpossible(largest) {
      const index = wasm.firstImpossible(count, largest);
      return index < 0 ? undefined : { index, value: taken[index] as number };
    },
    addIntegers: (first, length, at) => wasm.addIntegers(first, length, at),
    fold: (first, length, at, factor) => wasm.fold(first, length, at, factor, ROUNDER),
  };
}

/** The largest float32 that is not above the number: float32 values compare with it as with the number itself. */
function floorToFloat32(value: number): number {
  const nearest = Math.fround(value);
  if (!(nearest > value)) return nearest;
  const bits = new Uint32Array(Float32Array.of(nearest).buffer);
  bits[0] = (bits[0] as number) - 1;
  return new Float32Array(bits.buffer)[0] as number;
}
