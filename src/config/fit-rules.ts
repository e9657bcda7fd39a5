import { LOCAL_STEPS } from "./fit-section.ts";
import type { Rule } from "./rule.ts";

/* Rules on how a client trains. */

const oneLength: Rule = {
  reads: ["fit.localSteps", "fit.epochs"],
  check({ fit: { localSteps, epochs } }, report) {
    if (epochs === undefined || localSteps === LOCAL_STEPS) return;
    report(
      ["fit", "localSteps"],
      `cannot be combined with fit.epochs (${epochs}), which decides the number of steps: leave out one of them, as --set fit.local_steps= does`,
    );
  },
};

/* A rule for each: one is not checked where a value that it reads is itself refused. */

const floor: Rule = {
  reads: ["fit.lr", "fit.minLr"],
  check({ fit: { lr, minLr } }, report) {
    if (minLr > lr) report(["fit", "minLr"], `must be at most fit.lr (${lr}), got ${minLr}`);
  },
};

const falling: Rule = {
  reads: ["fit.lr", "fit.lrSchedule", "fit.minLr"],
  check({ fit: { lr, lrSchedule, minLr } }, report) {
    if (minLr > 0 && minLr <= lr && lrSchedule === "constant")
      report(["fit", "minLr"], "needs a fit.lr_schedule that falls: linear, cosine or inverse_sqrt");
  },
};

const warmRounds: Rule = {
  reads: ["rounds", "fit.warmupRounds"],
  check({ rounds, fit: { warmupRounds } }, report) {
    if (warmupRounds >= rounds)
      report(["fit", "warmupRounds"], `must be below rounds (${rounds}), so that a round has the full rate; got ${warmupRounds}`);
  },
};

const warmSteps: Rule = {
  reads: ["fit.warmupSteps", "fit.localSteps", "fit.epochs"],
  check({ fit: { warmupSteps, localSteps, epochs } }, report) {
    if (epochs === undefined && warmupSteps > 0 && warmupSteps >= localSteps)
      report(["fit", "warmupSteps"], `must be below fit.local_steps (${localSteps}), so that a step has the full rate; got ${warmupSteps}`);
  },
};

const nesterov: Rule = {
  reads: ["fit.optimizer"],
  check({ fit: { optimizer } }, report) {
    if (optimizer.name === "sgd" && optimizer.nesterov && optimizer.momentum === 0)
      report(["fit", "optimizer", "nesterov"], "needs a momentum above 0");
  },
};

const noiseOnTokens: Rule = {
  reads: ["fit.neftuneAlpha", "model.task"],
  check({ fit: { neftuneAlpha }, model: { task } }, report) {
    if (neftuneAlpha > 0 && task === "image-classification")
      report(["fit", "neftuneAlpha"], "is for token embeddings, which image-classification does without");
  },
};

export const fitRules: readonly Rule[] = [oneLength, floor, falling, warmRounds, warmSteps, nesterov, noiseOnTokens];
