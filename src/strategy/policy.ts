import { ConfigError } from "../errors.ts";
import type { PolicyDescription } from "./strategy.ts";

/** A policy that knows the name and options it was made with, for the config's checks and the run's record. */
export function withPolicy<F extends (...inputs: never[]) => unknown>(
  policy: NonNullable<PolicyDescription["policy"]>,
  decide: F,
): F & Required<PolicyDescription> {
  return Object.assign(decide, { policy });
}

/** Throws a ConfigError that names the option unless its value is as it must be. */
export function requireOption(isRight: boolean, option: string, rule: string, value: unknown): void {
  if (!isRight) throw new ConfigError([{ path: option, message: `must be ${rule}, got ${JSON.stringify(value)}` }]);
}

export function requireFraction(fraction: number, option: string): void {
  requireOption(fraction > 0 && fraction <= 1, option, "above 0 and at most 1", fraction);
}
