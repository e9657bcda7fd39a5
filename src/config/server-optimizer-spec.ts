import { z } from "zod";
import { called } from "./policy-specs.ts";

const decay = z.number().min(0).lt(1);
const tau = z.number().positive().default(1e-3).describe("Added to the square root of the variance.");
const adaptive = {
  lr: z.number().positive().default(0.01).describe("Server learning rate."),
  beta1: decay.default(0.9).describe("Decay of the mean."),
  beta2: decay.default(0.99).describe("Decay of the variance."),
  tau,
};
export const serverOptimizerSpec = z.discriminatedUnion("name", [
  z.strictObject({
    name: called("momentum", "FedAvgM (arXiv 1909.06335)."),
    lr: z.number().positive().default(1).describe("Server learning rate."),
    momentum: decay.default(0.9).describe("Decay of the velocity."),
  }),
  z.strictObject({
    name: called("adagrad", "FedAdagrad (arXiv 2003.00295)."),
    lr: z.number().positive().default(0.1).describe("Server learning rate."),
    tau,
  }),
  z.strictObject({ name: called("adam", "FedAdam (arXiv 2003.00295), without bias correction."), ...adaptive }),
  z.strictObject({
    name: called(
      "yogi",
      "FedYogi (arXiv 2003.00295), without bias correction: as adam, with a variance that a rare large change moves less.",
    ),
    ...adaptive,
  }),
]);
