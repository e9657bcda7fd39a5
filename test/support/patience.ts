import { vi } from "vitest";

/** How long a test waits for something that should happen soon. Only a hang exceeds it, not a slow machine. */
export const PATIENCE_MS = 300_000;

/** Waits until the check no longer throws, and returns what it does. */
export function eventually<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, { timeout: PATIENCE_MS });
}
