import type { Lane } from "./fold-kernel.ts";
import { createPlainLane } from "./plain-fold-kernel.ts";
import { createSimdLane } from "./simd-fold-kernel.ts";

/** Two kinds, and the same bytes: WebAssembly where the machine has its vector instructions, else plain TypeScript. */
export const createLane: (length: number) => Lane = createSimdLane ?? createPlainLane;
