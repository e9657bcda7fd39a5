import { expect } from "vitest";
import { ConfigError, type ConfigIssue } from "../../src/errors.ts";

/** The issues of the ConfigError that an action throws or rejects with. */
export async function issuesOf(action: () => unknown): Promise<readonly ConfigIssue[]> {
  const error = await Promise.resolve()
    .then(action)
    .catch((caught: unknown) => caught);
  if (!(error instanceof ConfigError)) throw new Error(`expected a ConfigError, got ${String(error)}`);
  return error.issues;
}

/** Matches an issue whose message holds these facts in this order, in whatever words: numbers, names and paths. */
export function issue(path: string, facts: readonly (string | number)[] = [], location?: string): ConfigIssue {
  const whole = facts.map((fact) => `(?<![\\w./-])${String(fact).replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")}(?![\\w/-]|\\.\\w)`);
  return {
    path,
    message: expect.stringMatching(new RegExp(whole.join("[^]*"))) as string,
    ...(location !== undefined && { location }),
  };
}

/** Matches an issue with an argument of a function or a command. */
export function argumentIssue(name: string, facts: readonly (string | number)[] = [], location?: string): ConfigIssue {
  return { ...issue(name, facts, location), isArgument: true };
}
