import { requireFraction, requireOption, withPolicy } from "../policy.ts";
import type { RankedClient, Selection } from "../strategy.ts";
import { oortScores, type ScoredClient } from "./oort-scores.ts";
import { idsOf, shareOf } from "./share.ts";
import { drawByWeight } from "./weighted-draw.ts";

export interface OortSelectionOptions {
  /** Share of all clients that train in a round, above 0; at least one client does. */
  readonly fraction: number;
  /** 1/T, local steps a second: clients that declare less score lower. By default speed only decides who is explored first. */
  readonly preferredSpeed?: number | undefined;
}

/** c: clients with at least this share of the lowest score that would get a place may be drawn, too. */
const CUTOFF = 0.95;

/**
 * Oort (Lai et al., OSDI 2021, https://arxiv.org/abs/2010.06081). In round t a share ε(t) = max(0.3, 0.9·0.98^t) of the
 * places explores clients that never reported, drawn in proportion to their speed if all declare one. The other places
 * exploit: they go to clients with at least 0.95 of the lowest score that would get a place, drawn in proportion to their
 * scores. `oortScores` has the formula.
 *
 * Ours: speed is declared in the config and never measured, so that a run can be repeated; T is an option and is not paced;
 * the utility's mean is over a fit's local steps, not over examples, and counts as the highest if it is not finite.
 * Oort's fairness term and its removal of clients that were picked often are left out.
 */
export function oortSelection({ fraction, preferredSpeed }: OortSelectionOptions): Selection {
  requireFraction(fraction, "oortSelection.fraction");
  const isSpeed = preferredSpeed === undefined || (preferredSpeed > 0 && preferredSpeed < Infinity);
  requireOption(isSpeed, "oortSelection.preferredSpeed", "above 0", preferredSpeed);
  const policy = { name: "oort", fraction, ...(preferredSpeed === undefined ? {} : { preferredSpeed }) };
  return withPolicy(policy, (context) => {
    const { clients, history, round } = context;
    const rng = context.rng("selection");
    const scored = oortScores(context, preferredSpeed);
    const unseen = clients.filter(({ id }) => !history.has(id));

    const places = shareOf(fraction, clients.length);
    const exploiting = Math.max(places - unseen.length, Math.min(scored.length, Math.floor(places * (1 - exploration(round)))));
    const exploited = drawByWeight(eligible(scored, exploiting), ({ score }) => score, exploiting, rng);
    const explored = drawByWeight(unseen, speedsOf(unseen), places - exploiting, rng);
    return idsOf([...exploited.map(({ client }) => client), ...explored]);
  });
}

function exploration(round: number): number {
  return Math.max(0.3, 0.9 * 0.98 ** round);
}

function eligible(scored: readonly ScoredClient[], places: number): readonly ScoredClient[] {
  const last = scored.map(({ score }) => score).toSorted((a, b) => b - a)[places - 1] ?? Infinity;
  return scored.filter(({ score }) => score >= CUTOFF * last);
}

/** Weights for drawing unseen clients: their declared speeds, or equal ones if any client declares none. */
function speedsOf(unseen: readonly RankedClient[]): (client: RankedClient) => number {
  const areDeclared = unseen.every(({ profile }) => profile.speed !== undefined);
  return ({ profile }) => (areDeclared ? (profile.speed ?? 1) : 1);
}
