import { defineConfig } from "vitest/config";

const root = new URL("..", import.meta.url).pathname;

/** End-to-end tests start Python processes, so they run after the others, one file at a time. */
export default defineConfig({
  root,
  test: {
    projects: [
      {
        root,
        test: { name: "unit", include: ["test/unit/**/*.test.ts", "test/conformance/**/*.test.ts"], sequence: { groupOrder: 0 } },
      },
      {
        root,
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          globalSetup: "test/e2e/global-setup.ts",
          testTimeout: 300_000,
          hookTimeout: 300_000,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
