import { vi } from "vitest";

/** How long a test waits for what should come soon. No test may fail because its machine is slow: only what hangs meets this. */
export const PATIENCE_MS = 300_000;

/** Waits until the check throws no more. */
export function eventually(check: () => void): Promise<void> {
  return vi.waitFor(check, { timeout: PATIENCE_MS });
}
