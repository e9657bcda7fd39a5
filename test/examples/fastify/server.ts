import process from "node:process";
import { tinyLauncher } from "prelort/testing";
import { createApp } from "./app.ts";
import { Runs } from "./runs.ts";

// `--tiny` trains a tiny model inside this process, to try the service without Python.
const isTiny = process.argv.includes("--tiny");
const config = isTiny ? "tiny.yaml" : (process.env["CONFIG"] ?? "node_modules/prelort/configs/quickstart.yaml");
const launcher = isTiny ? tinyLauncher() : undefined;
const runs = new Runs({ runsDir: process.env["RUNS_DIR"] ?? "runs", config, launcher });
const app = createApp(runs);
// The process ends by itself once nothing is left of the runs and their readers.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => void app.close());
await app.listen({ host: process.env["HOST"] ?? "127.0.0.1", port: Number(process.env["PORT"] ?? 3000) });
