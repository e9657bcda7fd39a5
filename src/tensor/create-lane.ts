import type { Lane } from "./lane.ts";
import { createPlainLane } from "./plain-lane.ts";
import { createSimdLane } from "./simd-lane.ts";

/** Two kinds, and the same bytes: WebAssembly where the machine has its vector instructions, else plain TypeScript. */
export const createLane: (length: number) => Lane = createSimdLane ?? createPlainLane;
