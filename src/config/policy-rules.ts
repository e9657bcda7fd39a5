import { memoryShortage } from "../strategy/ranks/profile.ts";
import type { Aggregation } from "../strategy/strategy.ts";
import { ownPolicyOf } from "./own-policy-spec.ts";
import { aggregationSpecOf, namedRanks, rankSpecOf, selectionSpecOf } from "./policy-specs.ts";
import type { Rule } from "./rule.ts";
import type { Path } from "./tree.ts";

/* Rules on policies, and on the ranks and profiles that they need. */

const tiersOfRank: Rule = {
  reads: ["lora.r", "lora.tiers"],
  check({ lora: { r, tiers } }, report) {
    if (!tiers) return;
    const ascending = tiers.every((tier, index) => tier > (tiers[index - 1] ?? 0));
    if (!ascending) report(["lora", "tiers"], `must ascend without repeats, got [${tiers.join(", ")}]`);
    else if (tiers.at(-1) !== r) report(["lora", "tiers"], `must end with lora.r (${r}), got [${tiers.join(", ")}]`);
  },
};

const assignedRanks: Rule = {
  reads: ["lora.r", "lora.tiers", "strategy.rankAssignment"],
  check({ lora: { r: largest, tiers }, strategy: { rankAssignment } }, report) {
    const spec = rankSpecOf(rankAssignment);
    for (const { r, at } of spec ? namedRanks(spec) : []) {
      const path = ["strategy", "rankAssignment", ...at];
      if (r > largest) report(path, `rank ${r} is larger than lora.r (${largest})`);
      else if (tiers && !tiers.includes(r)) report(path, `rank ${r} is not among lora.tiers [${tiers.join(", ")}]`);
    }
  },
};

const sharesOfOne: Rule = {
  reads: ["strategy.rankAssignment"],
  check({ strategy: { rankAssignment } }, report) {
    const spec = rankSpecOf(rankAssignment);
    if (spec?.name !== "tiered") return;
    const sum = Object.values(spec.shares).reduce((total, share) => total + share, 0);
    if (Math.abs(sum - 1) > 1e-9) report(["strategy", "rankAssignment", "shares"], `must sum to 1, got ${sum}`);
  },
};

const declaredMemory: Rule = {
  reads: ["data.profiles", "strategy.rankAssignment"],
  check({ data: { profiles }, strategy: { rankAssignment } }, report) {
    const spec = rankSpecOf(rankAssignment);
    if (spec?.name !== "profile") return;
    if (!profiles) report(["data", "profiles"], "is needed: the rank assignment profile depends on each client's memory");
    for (const [index, { memoryGiB }] of (profiles ?? []).entries()) {
      const shortage = memoryShortage(memoryGiB, spec.memoryGiB);
      if (shortage) report(["data", "profiles", index, "memoryGiB"], shortage);
    }
  },
};

const declaredSpeed: Rule = {
  reads: ["data.profiles", "strategy.selection"],
  check({ data: { profiles }, strategy: { selection } }, report) {
    const spec = selectionSpecOf(selection);
    if (spec?.name !== "oort" || spec.preferredSpeed === undefined) return;
    if (!profiles) report(["data", "profiles"], "is needed: the selection oort compares each client's speed with its preferred speed");
    for (const [index, { speed }] of (profiles ?? []).entries()) {
      if (speed === undefined)
        report(["data", "profiles", index, "speed"], "is needed: the selection oort compares it with its preferred speed");
    }
  },
};

const MERGING = ["flora", "fedex-lora"];

/** Whether an aggregation, a spec from a file or a policy, merges components into the base model. */
export function mergesIntoBase(aggregation: unknown): boolean {
  return MERGING.includes(policyName(aggregation));
}

const exactMerge: Rule = {
  reads: ["model.dtype", "model.quantization", "strategy.aggregation"],
  check({ model: { dtype, quantization }, strategy: { aggregation } }, report) {
    if ((dtype === "f32" && !quantization) || !mergesIntoBase(aggregation)) return;
    report(
      ["model", quantization ? "quantization" : "dtype"],
      `cannot be combined with the aggregation ${policyName(aggregation)}, which merges into the base model: ${quantization ?? dtype} would lose most of a small change`,
    );
  },
};

/** Their components change meaning from round to round: they are factorised anew, reordered, or merged and drawn anew. */
const ROTATING = ["flora", "flexlora", "raflora", "hlora", "fedrora", "fedsvd", "fed-plora", "random-components", "product-deltas"];
/** Means of weights, in which components keep their meaning. */
const MEANS_OF_WEIGHTS = ["zero-pad-weights", "hetlora", "fedex-lora"];

const optimizerOfDeltas: Rule = {
  reads: ["strategy.aggregation", "strategy.serverOptimizer"],
  check({ strategy: { aggregation, serverOptimizer } }, report) {
    const { policy } = (aggregation ?? {}) as { readonly policy?: Record<string, unknown> };
    const called = policyName(aggregation);
    const isRotating = ROTATING.includes(called);
    if (!(policy ? policy["serverOptimizer"] : serverOptimizer) || !(isRotating || MEANS_OF_WEIGHTS.includes(called))) return;
    const why = `which does not average changes${isRotating ? ": its components change meaning from round to round" : ""}`;
    report(["strategy", "serverOptimizer"], `cannot be combined with the aggregation ${called}, ${why}`);
  },
};

const tailOfOneAdapter: Rule = {
  reads: ["fit.actingTail", "fit.localSteps", "fit.epochs", "model.dtype", "model.quantization", "strategy.aggregation"],
  check({ fit: { actingTail, localSteps, epochs }, model: { dtype, quantization }, strategy: { aggregation } }, report) {
    if (policyName(aggregation) === "fed-plora" && actingTail !== 1)
      report(["fit", "actingTail"], "must be 1 with fed-plora, whose clients fold what they do not train into the base model");
    if (!actingTail) return;
    if (quantization) report(["fit", "actingTail"], "needs a base model that can be merged into, which model.quantization has not");
    else if (dtype !== "f32")
      report(["fit", "actingTail"], `needs model.dtype f32: ${dtype} would lose most of a small tail that is merged into it`);
    if (epochs === undefined && actingTail * localSteps < 1 && localSteps > 0)
      report(
        ["fit", "actingTail"],
        `is a share of fit.local_steps that is below one step, so the tail would never act; give at least ${1 / localSteps}`,
      );
    const { distributeTo } = (aggregation ?? {}) as Partial<Aggregation>;
    const called = policyName(aggregation);
    const refuse = (why: string) =>
      report(["fit", "actingTail"], `cannot be combined with the aggregation${` ${called}`.trimEnd()}, ${why}`);
    if (mergesIntoBase(aggregation)) refuse("whose clients merge what was trained");
    if (distributeTo || called === "fedrora") refuse("which chooses components for each client, so that none are above its rank");
  },
};

const NEEDS_EACH = ["hetlora", "flora", "fedex-lora", "flexlora", "raflora", "hlora", "fedrora", "product-deltas"];

const partialSumsOfMeans: Rule = {
  reads: ["partialSums", "recordUpdates", "strategy.aggregation", "strategy.rankAssignment"],
  check({ partialSums, recordUpdates, strategy: { aggregation, rankAssignment } }, report) {
    if (!partialSums) return;
    const spec = aggregationSpecOf(aggregation);
    const robust = spec?.name === "segment-wise" ? spec.robust?.name : undefined;
    const needsAll = robust !== undefined && robust !== "clip";
    const revises = typeof rankAssignment === "function" && "revise" in rankAssignment && rankAssignment.revise !== undefined;
    const { begin, addsUp, readsSpool } = (aggregation ?? {}) as Partial<Aggregation>;
    const isFromProgram = typeof begin === "function";
    // One of a file's own is checked once its code has run, as a program's.
    const isUnknown = !isFromProgram && ownPolicyOf(aggregation) !== undefined;
    const takesSums = isFromProgram ? addsUp === true && !readsSpool : spec !== undefined && !NEEDS_EACH.includes(spec.name);
    const reasons = [
      recordUpdates && "record_updates: true",
      (revises || rankSpecOf(rankAssignment)?.name === "self-pruning") && "a rank assignment that revises ranks",
      needsAll && `robust: ${robust}`,
      !takesSums && !needsAll && !isUnknown && `the aggregation${` ${policyName(aggregation)}`.trimEnd()}`,
    ].filter((reason) => reason !== false);
    if (reasons.length > 0) report(["partialSums"], `cannot be combined with what needs every update: ${reasons.join(", ")}`);
  },
};

const carriedStates: Rule = {
  reads: ["fit.clientState", "fit.optimizer", "partialSums", "strategy.aggregation", "strategy.rankAssignment"],
  check({ fit: { clientState, optimizer }, partialSums, strategy: { aggregation, rankAssignment } }, report) {
    if (clientState === "new") return;
    const refuse = (path: Path, why: string) => report(path, `cannot be combined with fit.client_state: keep: ${why}`);
    if (optimizer.name === "adamw_8bit") refuse(["fit", "optimizer"], "its state of 8 bits stays in bitsandbytes; use adamw or adafactor");
    if (optimizer.name === "sgd" && optimizer.momentum === 0)
      report(["fit", "clientState"], "keep needs an optimizer with a state, which sgd has only with a momentum above 0");
    if (partialSums) refuse(["partialSums"], "the states would travel with every fit, which is what partial sums spare");
    if (policyName(rankAssignment) === "self-pruning")
      refuse(["strategy", "rankAssignment"], "self-pruning changes ranks, and a state is of one rank");
    const called = policyName(aggregation);
    if (ROTATING.includes(called))
      refuse(
        ["strategy", "aggregation"],
        `with ${called}, components change meaning from round to round, so what an optimizer remembers of them is of other ones`,
      );
  },
};

/** Of a spec from a file, or a policy from a program. */
function policyName(chosen: unknown): string {
  const { name = "", policy } = (chosen ?? {}) as { readonly name?: string; readonly policy?: { readonly name?: unknown } };
  return policy ? String(policy.name) : name;
}

export const policyRules: readonly Rule[] = [
  optimizerOfDeltas,
  carriedStates,
  partialSumsOfMeans,
  tiersOfRank,
  assignedRanks,
  sharesOfOne,
  declaredMemory,
  declaredSpeed,
  exactMerge,
  tailOfOneAdapter,
];
