import type { Lane } from "./fold-kernel.ts";
import { createPlainLane } from "./plain-fold-kernel.ts";
import { createSimdLane } from "./simd-fold-kernel.ts";

/** WebAssembly if the machine has vector instructions, else plain TypeScript; both give the same bytes. */
export const createLane: (length: number) => Lane = createSimdLane ?? createPlainLane;
