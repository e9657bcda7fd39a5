import { anything, type Arbitrary, sample, string } from "fast-check";
import { Packr } from "msgpackr";

const packr = new Packr({ useRecords: false, variableMapSize: true });
const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));

/** msgpack values that may confuse a receiver; our encoders would not write most of them. */
const KNOWN = [
  "c0, c2, c3", // nil, false, true
  "00, 01, 02, 03, 04, 07, 08, 10, 18, 7f, ff, e0", // small integers
  "cc ff, cd ffff, ce ffffffff, cf 001fffffffffffff, cf 0020000000000000, cf ffffffffffffffff", // to 2^64 - 1
  "d0 80, d2 80000000, d3 8000000000000000, d3 0000000000000001",
  "ca 7f800000, cb 7ff8000000000000, cb fff0000000000000, cb 8000000000000000", // ∞, NaN, −∞, −0
  "cb 3ff8000000000000, cb 7fe1ccf385ebc8a0, cb 4340000000000000, cb 4008000000000000", // 1.5, 1e308, 2^53, 3.0
  "a0, a1 00, a1 ff, a2 c328, a3 eda080, a4 f8888080, a9 5f5f70726f746f5f5f, ab 636f6e7374727563746f72", // text, valid UTF-8 or not
  "c4 00, c4 01 ff, c4 04 0000c07f, c5 ffff, c6 ffffffff, db ffffffff, d9 ff", // bin, and lengths beyond the end
  "80, 90, 91 c0, 81 c0 c0, 81 01 01, 81 a0 90, dc ffff, dd ffffffff, de ffff, df ffffffff",
  "c1, d4 00 01, d6 ff 00000000, c7 02 74 01 07, c7 00 00, c8 0001 65 90, c9 ffffffff 00", // extensions
  "d8 00 00112233445566778899aabbccddeeff",
].flatMap((line) => line.split(",").map(bytes));

const values: Arbitrary<unknown> = anything({
  withBigInt: true,
  withDate: true,
  withMap: true,
  withTypedArray: true,
  withNullPrototype: true,
});

/** Those values, and others from fast-check. */
export function hostileValues(seed: number): readonly Uint8Array[] {
  const strings = sample(string({ unit: "binary", maxLength: 300 }), { seed, numRuns: 200 });
  const thought = [...sample(values, { seed, numRuns: 600 }), ...strings].flatMap((value) => {
    try {
      return [Uint8Array.from(packr.pack(value))];
    } catch {
      return []; // msgpackr cannot write it
    }
  });
  return [...KNOWN, ...KNOWN, ...KNOWN, ...thought.filter(({ length }) => length < 4096)];
}
