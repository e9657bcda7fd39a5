import { setTimeout } from "node:timers/promises";
import { createRng, deriveSeed, type Rng } from "../../dist/base/rng.js";
import { type Campaign, makePlace, MAX_STALLS, undisturbed } from "./campaign.ts";
import { summarise, tally } from "./figures.ts";
import { hostStrikes, untilLinksAreWell } from "./host-strikes.ts";
import { begin, type Life, type Place } from "./life.ts";
import { bytesOf, committed, inflicted, leftoversOf, mountDisk, readersOfShared } from "./place.ts";
import { fillDisk, killController, killWorker, pauseWorker, type Strike, stopWorker } from "./strikes.ts";

/** One run with faults of many kinds. */
export async function strikeOneRun(campaign: Campaign, faults: number) {
  const { seed, say, hosts } = campaign;
  const rounds = Math.max(6, Math.ceil(1.2 * faults));
  say(`a run of ${rounds} rounds, undisturbed`);
  // On this machine, whatever disturbs the others: they must end with its bytes.
  const calm = await undisturbed(campaign, "calm", { rounds, workers: 2 });
  // With hosts, one of them has two workers, which share memory.
  const workers = hosts ? hosts.namespaces.length + 1 : 2;
  // Every other life finds what one that sent its updates otherwise has left.
  const place = makePlace(campaign, "struck", {
    rounds,
    workers,
    hosts,
    addsUp: (life) => life % 2 === 0,
    faults: { seed, rate: hosts ? 0.03 : 0.06 },
  });
  const hasDisk = mountDisk(place);
  const skipped = hasDisk ? [] : ["full disk: no file system could be mounted for the run"];
  const local = [killWorker, stopWorker, pauseWorker, killController, ...(hasDisk ? [fillDisk] : [])];
  say(`the same run with ${faults} faults`);
  const struck = createRecord(place);
  const first = hosts ? hostStrikes : [];
  const { lives, hasEnded, ends } = await strikeToTheEnd(place, { faults, seed, say, struck, first, strikes: [...local, ...first] });
  const ended = Date.now();
  const leftovers = await leftoversOf(place);
  const goneMs = Date.now() - ended;
  await untilLinksAreWell();
  const isEqual = hasEnded && bytesOf(place) === calm.bytes;
  return {
    faults: struck.total(),
    byKind: struck.byKind(),
    skipped,
    lives,
    isEqual,
    leftovers,
    goneMs,
    ends: tally(ends),
    detectionMs: struck.latencies(),
    ...(hosts && { readersOfShared: readersOfShared(place) }),
  };
}

/** What has struck a run so far. */
type StruckRecord = ReturnType<typeof createRecord>;

function createRecord(place: Place) {
  const done: string[] = [];
  const latencies = new Map<string, number[]>();
  return {
    has: ({ name }: Strike) => done.includes(name),
    async add({ name, strike }: Strike, life: Life, rng: Rng): Promise<void> {
      const seen = await strike(life, rng, place);
      if (seen) done.push(name);
      void seen?.latencyMs?.then((ms) => ms !== undefined && latencies.set(name, [...(latencies.get(name) ?? []), ms]));
    },
    total: () => done.length + inflicted(place).length,
    byKind: () => tally([...done, ...inflicted(place)]),
    latencies: () => summarise(latencies),
  };
}

interface Striking {
  readonly faults: number;
  readonly seed: number;
  readonly first: readonly Strike[];
  readonly strikes: readonly Strike[];
  readonly struck: StruckRecord;
  say(text: string): void;
}

async function strikeToTheEnd(place: Place, { faults, seed, first, strikes, struck, say }: Striking) {
  const rng = createRng(deriveSeed(seed, "strikes"));
  const ends: string[] = [];
  let life = begin(place);
  let [told, stalls, reached, lives, hasEnded] = [0, 0, 0, 1, false];
  while (!hasEnded && stalls < MAX_STALLS) {
    // Sometimes while workers start, otherwise while they train; spread over the rounds, so that the run makes progress.
    if (rng.next() < 0.9) await life.began;
    await Promise.race([life.ended, setTimeout(30 + 250 * rng.next())]);
    const isDue = struck.total() < faults && struck.total() / faults <= (committed(place) + 2) / place.rounds;
    // Those of hosts once at first, so that a short campaign has them too.
    const strike = first.find((untried) => !struck.has(untried)) ?? choose(strikes, rng);
    if (!life.hasEnded() && isDue) await struck.add(strike, life, rng);
    if (struck.total() >= told + 20) say(`${(told = struck.total())} faults, ${committed(place)} of ${place.rounds} rounds`);
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
    lives++;
  }
  return { lives, hasEnded, ends };
}

function choose(strikes: readonly Strike[], rng: Rng): Strike {
  let left = rng.next() * strikes.reduce((sum, { weight }) => sum + weight, 0);
  return strikes.find(({ weight }) => (left -= weight) < 0) ?? (strikes[0] as Strike);
}
