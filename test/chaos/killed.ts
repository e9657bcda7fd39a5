import { existsSync, rmSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { createRng, deriveSeed } from "../../dist/base/rng.js";
import { type Campaign, makePlace, toTheEnd, undisturbed } from "./campaign.ts";
import { tally } from "./figures.ts";
import { begin, runDirectory } from "./life.ts";
import { bytesOf, committed, leftoversOf } from "./place.ts";

/** Runs with their controller killed once, at any point from start to end. */
export async function killAtRandomPoints(campaign: Campaign, kills: number) {
  const { seed, say, hosts } = campaign;
  const sizes = { rounds: 10, workers: hosts?.namespaces.length ?? 1, hosts };
  const calm = await undisturbed(campaign, "small", sizes);
  say(`${kills} small runs of ${((calm.startMs + calm.trainMs) / 1000).toFixed(1)} s, each killed once`);
  const rng = createRng(deriveSeed(seed, "kills"));
  const unequal: string[] = [];
  const leftovers: string[] = [];
  const rounds: string[] = [];
  for (let run = 0; run < kills; run++) {
    const addsUp = (life: number) => ((run >> life) & 1) === 0;
    const place = makePlace(campaign, `kill-${run}`, { ...sizes, addsUp, faults: { seed, rate: 0 } });
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
