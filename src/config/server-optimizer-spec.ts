import { z } from "zod";
import { SERVER_OPTIMIZER_DEFAULTS } from "../strategy/aggregation/server-optimizer.ts";
import { called } from "./policy-specs.ts";

const { momentum, adagrad, adam, yogi } = SERVER_OPTIMIZER_DEFAULTS;

const decay = z.number().min(0).lt(1);
const rate = (byDefault: number) => z.number().positive().default(byDefault).describe("Server learning rate.");
const tau = (byDefault: number) => z.number().positive().default(byDefault).describe("Added to the square root of the variance.");
const adaptive = (defaults: typeof adam | typeof yogi) => ({
  lr: rate(defaults.lr),
  beta1: decay.default(defaults.beta1).describe("Decay of the mean."),
  beta2: decay.default(defaults.beta2).describe("Decay of the variance."),
  tau: tau(defaults.tau),
});
export const serverOptimizerSpec = z.discriminatedUnion("name", [
  z.strictObject({
    name: called("momentum", "FedAvgM (arXiv 1909.06335)."),
    lr: rate(momentum.lr),
    momentum: decay.default(momentum.momentum).describe("Decay of the velocity."),
  }),
  z.strictObject({
    name: called("adagrad", "FedAdagrad (arXiv 2003.00295)."),
    lr: rate(adagrad.lr),
    tau: tau(adagrad.tau),
  }),
  z.strictObject({ name: called("adam", "FedAdam (arXiv 2003.00295), without bias correction."), ...adaptive(adam) }),
  z.strictObject({
    name: called(
      "yogi",
      "FedYogi (arXiv 2003.00295), without bias correction: as adam, with a variance that a rare large change moves less.",
    ),
    ...adaptive(yogi),
  }),
]);
