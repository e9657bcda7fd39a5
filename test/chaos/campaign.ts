import { mkdirSync } from "node:fs";
import path from "node:path";
import type { Hosts } from "./hosts.ts";
import { begin, type Life, type Place, temporary } from "./life.ts";
import { bytesOf } from "./place.ts";

/** What the runs of a campaign have in common. */
export interface Campaign {
  /** Holds everything that it writes. */
  readonly root: string;
  readonly seed: number;
  /** Where the workers run; undefined: on this machine. */
  readonly hosts: Hosts | undefined;
  say(text: string): void;
}

const CLIENTS = 8;
/** The campaign stops after this many lives of a run in a row that end by themselves without a new round. */
export const MAX_STALLS = 20;

export function makePlace({ root }: Campaign, name: string, sizes: Omit<Place, "root" | "runs" | "clients">): Place {
  const folder = path.join(root, name);
  const place = { ...sizes, root: folder, runs: path.join(folder, "runs"), clients: CLIENTS };
  for (const made of [place.runs, temporary(place)]) mkdirSync(made, { recursive: true });
  return place;
}

/** Waits for a life to end, and starts others until the run has ended. */
export async function toTheEnd(place: Place, first: Life): Promise<void> {
  let life = first;
  for (let stalls = 0; ; stalls++) {
    const { how, said } = await life.ended;
    if (how === 0) return;
    if (stalls === MAX_STALLS) throw new Error(`the run does not finish: ${how}\n${said}`);
    life = begin(place);
  }
}

export async function undisturbed(
  campaign: Campaign,
  name: string,
  sizes: Pick<Place, "rounds" | "workers" | "hosts">,
): Promise<{ readonly bytes: string; readonly startMs: number; readonly trainMs: number }> {
  const place = makePlace(campaign, name, { ...sizes, addsUp: () => false, faults: { seed: campaign.seed, rate: 0 } });
  const begun = Date.now();
  const life = begin(place);
  const [began = begun, trained = begun] = await Promise.all([life.began, life.trained]);
  await toTheEnd(place, life);
  return { bytes: bytesOf(place), startMs: began - begun, trainMs: trained - began };
}
