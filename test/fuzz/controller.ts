/* The process that attacks the controller's code: writes lines of JSON with its progress, the last with its findings. */
import process from "node:process";
import { attackController } from "./campaign.ts";
import { createTally } from "./tally.ts";

const [seed, inputs] = process.argv.slice(2).map(Number) as [number, number];
const strays = createTally();
for (const event of ["unhandledRejection", "uncaughtException"]) process.on(event, (error: unknown) => strays.crashed(error, []));

const write = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
let told = 0;
const tell = (done: number) => {
  if (performance.now() < told + 500) return;
  told = performance.now();
  write({ inputs: done });
};
try {
  const { layers, memory } = await attackController(seed, inputs, tell);
  const { crashes } = strays.report();
  write({ layers: crashes.length > 0 ? { ...layers, strays: strays.report() } : layers, memory });
} catch (error) {
  // A bug in this program: errors that an input causes are caught where it is tried.
  process.stderr.write(`${(error as Error).stack}\n`);
  process.exitCode = 1;
}
