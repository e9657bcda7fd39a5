import { computedMode, metricsOfTask, OF_TEXT } from "./best-metric.ts";
import { resolveTiers } from "./resolve-tiers.ts";
import type { Rule } from "./rule.ts";

/* Rules on the best round, on stopping early, and on the rounds whose files are kept. */

const knownMetric: Rule = {
  reads: ["evaluate", "model.task", "model.problemType"],
  check({ evaluate: { best, maxNewTokens }, model }, report) {
    if (!best) return;
    const { metric, mode } = best;
    const known = metricsOfTask(model);
    if (known && !known.includes(metric))
      report(
        ["evaluate", "best", "metric"],
        `must be one of ${known.join(", ")}, the metrics of ${model.problemType ?? model.task}, got ${JSON.stringify(metric)}`,
      );
    else if (OF_TEXT.includes(metric) && maxNewTokens === 0)
      report(["evaluate", "best", "metric"], `${metric} needs evaluate.max_new_tokens above 0, which generates the text that it rates`);
    const computed = computedMode(metric);
    if (computed && mode && mode !== computed)
      report(["evaluate", "best", "mode"], `must be ${computed} for ${metric}, or be left out, got ${mode}`);
    if (!known && !computed && !mode)
      report(["evaluate", "best", "mode"], `is needed: min or max, which says whether lower or higher ${metric} is better`);
  },
};

const knownTier: Rule = {
  reads: ["evaluate.best", "lora.r", "lora.tiers", "strategy.rankAssignment"],
  check({ evaluate: { best }, lora, strategy }, report) {
    if (typeof best?.at !== "number") return;
    const tiers = resolveTiers({ lora, strategy });
    if (tiers.includes(best.at)) return;
    report(["evaluate", "best", "at"], `must be area, worst or one of the tiers [${tiers.join(", ")}], got ${best.at}`);
  },
};

const stopsForReason: Rule = {
  reads: ["evaluate.best", "stopWhen"],
  check({ evaluate: { best }, stopWhen }, report) {
    if (!stopWhen) return;
    if (stopWhen.patience === undefined && stopWhen.target === undefined)
      report(["stopWhen"], "must have patience or target, or both: nothing else stops the run");
    else if (!best) report(["stopWhen"], "needs evaluate.best, which says by which metric rounds are compared, such as { metric: loss }");
  },
};

const keptFiles: Rule = {
  reads: ["evaluate.best", "keepRounds", "recordUpdates"],
  check({ evaluate: { best }, keepRounds, recordUpdates }, report) {
    if (keepRounds === "all") return;
    if (keepRounds === "best" && !best)
      report(["keepRounds"], "best needs evaluate.best, which says by which metric rounds are compared, such as { metric: loss }");
    if (recordUpdates)
      report(
        ["keepRounds"],
        "must be all with record_updates: true, since each round is recomputed from the files of the round before; remove one of the two",
      );
  },
};

export const bestRules: readonly Rule[] = [knownMetric, knownTier, stopsForReason, keptFiles];
