import { expect } from "vitest";
import { ConfigError, type ConfigIssue } from "../../src/errors.ts";

/** The issues of the ConfigError with which the promise rejects. */
export async function configIssues(promise: Promise<unknown>): Promise<readonly ConfigIssue[]> {
  const error = await promise.then(
    () => "resolved",
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).issues;
}
