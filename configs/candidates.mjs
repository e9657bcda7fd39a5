// Candidates of configs/compare-candidates-llama.yaml that a config alone cannot say: built-in rules with fit options of their own.
import { productDeltas, zeroPadDeltas } from "prelort";

// Late nesting: in the first two thirds of six rounds each client trains its own rank alone, then three tenths go to lower tiers.
const lateNesting = (_, { round }) => ({ fullWeight: round <= 4 ? 1 : 0.7 });
export const lateProductDeltas = { ...productDeltas(), fitOptions: lateNesting };
export const lateZeroPadDeltas = { ...zeroPadDeltas(), fitOptions: lateNesting };

// The tail acts early, so that ranks learn to fit together; then each client trains its prefix as it will run.
export const tailThenPrefix = { ...productDeltas(), fitOptions: (_, { round }) => ({ actingTail: round <= 4 ? 0.5 : 0 }) };

// Larger ranks learn more slowly.
const byRank = ({ r }) => ({ lrA: (4 / r) ** 0.25, lrB: (4 / r) ** 0.25 });
export const ratesByRank = { ...productDeltas(), fitOptions: byRank };

// B learns faster than A, as in LoRA+ (arXiv 2402.12354).
export const fastB = { ...productDeltas(), fitOptions: { lrA: 0.5, lrB: 2 } };
export const zeroPadFastB = { ...zeroPadDeltas(), fitOptions: { lrA: 0.5, lrB: 2 } };
