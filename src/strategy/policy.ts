import { ConfigError } from "../errors.ts";
import type { PolicyDescription } from "./strategy.ts";

/** A policy that knows the name and options it was made with, for the config's checks and the run's record. */
export function withPolicy<F extends (...inputs: never[]) => unknown>(
  policy: NonNullable<PolicyDescription["policy"]>,
  decide: F,
): F & Required<PolicyDescription> {
  return Object.assign(decide, { policy });
}

/** Throws a ConfigError that names the option and the rule if the value is invalid. */
export function requireOption(isRight: boolean, option: string, rule: string, value: unknown): void {
  if (isRight) return;
  // JSON has no NaN or Infinity.
  const given = typeof value === "number" ? String(value) : JSON.stringify(value);
  throw new ConfigError([{ path: option, message: `must be ${rule}, got ${given}` }]);
}

export function requireFraction(fraction: number, option: string): void {
  requireOption(fraction > 0 && fraction <= 1, option, "above 0 and at most 1", fraction);
}
