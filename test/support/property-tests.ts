import process from "node:process";
import { configureGlobal } from "fast-check";

// Property tests draw the same cases in every `npm test`; `npm run fuzz` draws others, and more of them.
const { PRELORT_PROPERTY_SEED: seed = "1", PRELORT_PROPERTY_RUNS: runs = "100" } = process.env;
configureGlobal({ seed: Number(seed), numRuns: Number(runs) });
