/*
 * npm run chaos -- [--seed N] [--faults N] [--kills N]
 *
 * Injects faults of many kinds into one run, and kills the controllers of others at random points. All must end with the bytes of
 * an undisturbed run and leave nothing behind. Writes chaos.json; exits with 1 if one does not.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createRng, deriveSeed, type Rng } from "../../dist/base/rng.js";
import { begin, faultLog, type Life, type Place, processes, runDirectory, temporary } from "./life.ts";
import { fillDisk, killController, killWorker, pauseWorker, type Strike, stopWorker } from "./strikes.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    faults: { type: "string", default: "200" },
    kills: { type: "string", default: "100" },
    out: { type: "string", default: "chaos.json" },
  },
});
const [seed, faults, kills] = [Number(values.seed), Number(values.faults), Number(values.kills)];
if (![seed, faults, kills].every((number) => Number.isInteger(number) && number >= 0)) {
  process.stderr.write("chaos: --seed, --faults and --kills are whole numbers of at least 0\n");
  process.exit(2);
}

const CLIENTS = 8;
/** The campaign stops after this many lives of the run in a row that end by themselves without a new round. */
const MAX_STALLS = 20;
const root = mkdtempSync(path.join(tmpdir(), "chaos-"));
const started = Date.now();
const say = (text: string) => process.stdout.write(`${((Date.now() - started) / 1000).toFixed(0).padStart(5)} s  ${text}\n`);

function makePlace(name: string, sizes: Pick<Place, "rounds" | "workers" | "faults" | "addsUp">): Place {
  const folder = path.join(root, name);
  const place = { ...sizes, root: folder, runs: path.join(folder, "runs"), clients: CLIENTS };
  for (const made of [place.runs, temporary(place)]) mkdirSync(made, { recursive: true });
  return place;
}

/** Hash of everything that must be reproduced: every round's global adapter, and the metrics. */
function bytesOf(place: Place): string {
  const hash = createHash("sha256");
  for (let round = 0; round <= place.rounds; round++) {
    hash.update(readFileSync(path.join(runDirectory(place), "rounds", `${round}`, "global.safetensors")));
  }
  return hash.update(readFileSync(path.join(runDirectory(place), "metrics.jsonl"))).digest("hex");
}

/** Processes, temporary files and partial files that a finished run left behind, after some time to disappear. */
async function leftoversOf(place: Place): Promise<readonly string[]> {
  for (let waited = 0; waited < 3000 && findLeftovers(place).length > 0; waited++) await setTimeout(100);
  return findLeftovers(place);
}

function findLeftovers(place: Place): readonly string[] {
  const files = readdirSync(runDirectory(place), { recursive: true, encoding: "utf8" });
  return [
    ...processes(place.root).map(({ args }) => `process ${args}`),
    ...readdirSync(temporary(place)).map((name) => `temporary ${name}`),
    ...files.filter((file) => /\.partial$|(^|\/)lock|^updates\/./.test(file)),
  ];
}

/** Waits for a life to end, and starts others until the run has ended. */
async function toTheEnd(place: Place, first: Life): Promise<void> {
  let life = first;
  for (let stalls = 0; ; stalls++) {
    const { how, said } = await life.ended;
    if (how === 0) return;
    if (stalls === MAX_STALLS) throw new Error(`the run does not finish: ${how}\n${said}`);
    life = begin(place);
  }
}

async function undisturbed(
  name: string,
  sizes: Pick<Place, "rounds" | "workers">,
): Promise<{ readonly bytes: string; readonly startMs: number; readonly trainMs: number }> {
  const place = makePlace(name, { ...sizes, addsUp: () => false, faults: { seed, rate: 0 } });
  const begun = Date.now();
  const life = begin(place);
  const [began = begun, trained = begun] = await Promise.all([life.began, life.trained]);
  await toTheEnd(place, life);
  return { bytes: bytesOf(place), startMs: began - begun, trainMs: trained - began };
}

/** Mounts a small disk for a run, if this machine allows it. */
function mountDisk(place: Place): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=48m", "chaos", place.runs], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** The faults that workers injected themselves, by kind. */
function inflicted(place: Place): readonly string[] {
  if (!existsSync(faultLog(place))) return [];
  const lines = readFileSync(faultLog(place), "utf8").trimEnd().split("\n");
  return lines.map((line) => (JSON.parse(line) as { readonly fault: string }).fault);
}

async function strikeOneRun() {
  const sizes = { rounds: Math.max(6, Math.ceil(1.2 * faults)), workers: 2 };
  say(`a run of ${sizes.rounds} rounds, undisturbed`);
  const calm = await undisturbed("calm", sizes);
  // Every other life finds what one that sent its updates otherwise has left.
  const place = makePlace("struck", { ...sizes, addsUp: (life) => life % 2 === 0, faults: { seed, rate: 0.06 } });
  const hasDisk = mountDisk(place);
  const skipped = hasDisk ? [] : ["full disk: no file system could be mounted for the run"];
  const strikes = [killWorker, stopWorker, pauseWorker, killController, ...(hasDisk ? [fillDisk] : [])];
  const rng = createRng(deriveSeed(seed, "strikes"));
  const done = new Map<string, number>();
  const latencies = new Map<string, number[]>();
  const ends: string[] = [];
  const total = () => [...done.values()].reduce((sum, count) => sum + count, 0) + inflicted(place).length;
  try {
    say(`the same run with ${faults} faults`);
    let life = begin(place);
    let [told, stalls, reached, hasEnded] = [0, 0, 0, false];
    while (!hasEnded && stalls < MAX_STALLS) {
      // Sometimes while workers start, otherwise while they train; spread over the rounds, so that the run makes progress.
      if (rng.next() < 0.9) await life.began;
      await Promise.race([life.ended, setTimeout(30 + 250 * rng.next())]);
      const isDue = total() < faults && total() / faults <= (committed(place) + 2) / sizes.rounds;
      if (!life.hasEnded() && isDue) {
        const { name, strike } = choose(strikes, rng);
        const seen = await strike(life, rng, place);
        if (seen) done.set(name, (done.get(name) ?? 0) + 1);
        void seen?.latencyMs?.then((ms) => ms !== undefined && latencies.set(name, [...(latencies.get(name) ?? []), ms]));
      }
      if (total() >= told + 20) say(`${(told = total())} faults, ${committed(place)} of ${sizes.rounds} rounds`);
      if (!life.hasEnded()) continue;
      const { how, said } = await life.ended;
      hasEnded = how === 0;
      stalls = committed(place) > reached ? 0 : stalls + 1;
      reached = committed(place);
      if (hasEnded) continue;
      if (how !== "SIGKILL") {
        ends.push(said.split("\n")[0] ?? "");
        say(`the run ended: ${said.split("\n").slice(0, 2).join(" ").slice(0, 200)}`);
      }
      life = begin(place);
    }
    const leftovers = await leftoversOf(place);
    const byKind = tally([...[...done].flatMap(([name, count]) => Array.from({ length: count }, () => name)), ...inflicted(place)]);
    const isEqual = hasEnded && bytesOf(place) === calm.bytes;
    return { faults: total(), byKind, skipped, isEqual, leftovers, ends: tally(ends), detectionMs: summarise(latencies) };
  } finally {
    for (const { pid } of processes(place.root)) process.kill(pid, "SIGKILL");
    if (hasDisk) execFileSync("umount", ["-l", place.runs]);
  }
}

/** Runs with their controller killed once, at any point from start to end. */
async function killAtRandomPoints() {
  const sizes = { rounds: 10, workers: 1 };
  const calm = await undisturbed("small", sizes);
  say(`${kills} small runs of ${((calm.startMs + calm.trainMs) / 1000).toFixed(1)} s, each killed once`);
  const rng = createRng(deriveSeed(seed, "kills"));
  const unequal: string[] = [];
  const leftovers: string[] = [];
  const rounds: string[] = [];
  for (let run = 0; run < kills; run++) {
    const addsUp = (life: number) => ((run >> life) & 1) === 0;
    const place = makePlace(`kill-${run}`, { ...sizes, addsUp, faults: { seed, rate: 0 } });
    // Most of them while they train.
    const isEarly = run % 5 === 0;
    const at = Math.floor(rng.next() * (isEarly ? calm.startMs : calm.trainMs));
    const life = begin(place);
    if (!isEarly) await life.began;
    await Promise.race([life.ended, setTimeout(at)]);
    life.kill();
    await life.ended;
    rounds.push(existsSync(runDirectory(place)) ? `${committed(place)} rounds committed` : "nothing begun");
    await toTheEnd(place, begin(place));
    if (bytesOf(place) !== calm.bytes) unequal.push(`run ${run}, killed ${at} ms after ${isEarly ? "its start" : "training began"}`);
    leftovers.push(...(await leftoversOf(place)));
    rmSync(place.root, { recursive: true });
    if ((run + 1) % 10 === 0) say(`${run + 1} killed, ${run + 1 - unequal.length} with the same bytes`);
  }
  return { runs: kills, equal: kills - unequal.length, unequal, leftovers, killedAt: tally(rounds) };
}

function committed(place: Place): number {
  const folder = path.join(runDirectory(place), "rounds");
  return existsSync(folder) ? readdirSync(folder).length : 0;
}

function choose(strikes: readonly Strike[], rng: Rng): Strike {
  let left = rng.next() * strikes.reduce((sum, { weight }) => sum + weight, 0);
  return strikes.find(({ weight }) => (left -= weight) < 0) ?? (strikes[0] as Strike);
}

function tally(names: readonly string[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries([...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function summarise(latencies: ReadonlyMap<string, readonly number[]>) {
  return Object.fromEntries(
    [...latencies].map(([name, found]) => {
      const sorted = found.toSorted((a, b) => a - b);
      return [name, { seen: sorted.length, p50: sorted[Math.floor(sorted.length / 2)], most: sorted.at(-1) }];
    }),
  );
}

try {
  const struck = faults > 0 ? await strikeOneRun() : null;
  const killed = kills > 0 ? await killAtRandomPoints() : null;
  const isKept =
    (struck === null || (struck.isEqual && struck.leftovers.length === 0 && struck.faults >= faults)) &&
    (killed === null || (killed.equal === killed.runs && killed.leftovers.length === 0));
  const result = {
    date: new Date().toISOString().slice(0, 10),
    seed,
    seconds: Math.round((Date.now() - started) / 1000),
    isKept,
    struck,
    killed,
  };
  writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
  say(`${isKept ? "all promises kept" : "NOT all promises kept"}; see ${values.out}`);
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  process.exitCode = isKept ? 0 : 1;
} finally {
  rmSync(root, { recursive: true, force: true });
}
