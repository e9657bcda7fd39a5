import { PrelortError } from "../errors.ts";
import type { Attributes } from "./telemetry.ts";

/** Longer messages, such as a worker's traceback, are cut. */
const MAX_LENGTH = 4096;

/** `error.type` of OpenTelemetry's conventions: one of few values. */
export function errorType(error: unknown): string {
  if (error instanceof PrelortError) return error.kind;
  return error instanceof Error ? error.name : "_OTHER";
}

export function errorMessage(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, MAX_LENGTH);
}

/** An error as an event of the name `exception`. */
export function exceptionOf(error: unknown): Attributes {
  const type = error instanceof Error ? error.name : typeof error;
  return { "exception.type": type, "exception.message": errorMessage(error), "error.type": errorType(error) };
}
