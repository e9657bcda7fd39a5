/*
 * npm run chaos -- [--seed N] [--faults N] [--kills N] [--hosts N]
 *
 * Injects faults of many kinds into one run, and kills the controllers of others at random points. All must end with the bytes of
 * an undisturbed run and leave nothing behind. With --hosts, workers run on that many hosts, whose links and processes fail too.
 * Writes chaos.json; exits with 1 if a promise is not kept.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { killAtRandomPoints } from "./killed.ts";
import { leftOfHosts, openHosts, whyNoHosts } from "./hosts.ts";
import { processes, signal } from "./life.ts";
import { unmountDisks } from "./place.ts";
import { strikeOneRun } from "./struck.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    faults: { type: "string", default: "200" },
    kills: { type: "string", default: "100" },
    hosts: { type: "string", default: "0" },
    out: { type: "string", default: "chaos.json" },
  },
});
const [seed, faults, kills, hostCount] = [Number(values.seed), Number(values.faults), Number(values.kills), Number(values.hosts)];
if (![seed, faults, kills, hostCount].every((number) => Number.isInteger(number) && number >= 0)) {
  process.stderr.write("chaos: --seed, --faults, --kills and --hosts are whole numbers of at least 0\n");
  process.exit(2);
}
const obstacle = hostCount > 0 ? whyNoHosts() : undefined;
if (obstacle !== undefined) {
  process.stdout.write(`chaos: skipped: ${obstacle}\n`);
  process.exit(0);
}

const root = mkdtempSync(path.join(tmpdir(), "chaos-"));
const started = Date.now();
const say = (text: string) => process.stdout.write(`${((Date.now() - started) / 1000).toFixed(0).padStart(5)} s  ${text}\n`);

// However this process ends; hosts clean up after themselves.
process.once("exit", () => {
  for (const { pid } of processes(root)) signal(pid, "SIGKILL");
  unmountDisks();
  rmSync(root, { recursive: true, force: true, maxRetries: 5 });
});
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => process.exit(128 + constants.signals[name]));

const hosts = hostCount > 0 ? await openHosts(hostCount) : undefined;
const campaign = { root, seed, say, hosts };
const struck = faults > 0 ? await strikeOneRun(campaign, faults) : null;
const killed = kills > 0 ? await killAtRandomPoints(campaign, kills) : null;
await hosts?.close();
const leftOfNetwork = hosts ? leftOfHosts(hosts) : [];
const isKept =
  (struck === null || (struck.isEqual && struck.leftovers.length === 0 && struck.faults >= faults)) &&
  (killed === null || (killed.equal === killed.runs && killed.leftovers.length === 0)) &&
  leftOfNetwork.length === 0;
const result = {
  date: new Date().toISOString().slice(0, 10),
  seed,
  seconds: Math.round((Date.now() - started) / 1000),
  isKept,
  ...(hosts && { hosts: hostCount, leftOfNetwork }),
  struck,
  killed,
};
writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
say(`${isKept ? "all promises kept" : "NOT all promises kept"}; see ${values.out}`);
process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
process.exitCode = isKept ? 0 : 1;
