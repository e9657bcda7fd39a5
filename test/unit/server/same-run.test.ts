import { expect, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import { requireSameRun } from "../../../src/server/same-run.ts";

const record = {
  name: "a",
  prelort: "0.1.0",
  config: { name: "a", runs_dir: "runs", seed: 7, lora: { r: 8, tiers: [1, 8] }, record_updates: false, workers: { count: 2, threads: 1 } },
  versions: { torch: "2.13.0" },
  index: { path: "/cache/a", sha256: "ab" },
  clients: [{ id: "c0", n: 5 }],
};

test("a run may go on elsewhere, with other workers", () => {
  const config = { ...record.config, name: "b", runs_dir: "/else", record_updates: true, workers: { count: 9, threads: 1, retries: 7 } };
  expect(requireSameRun(record, { ...record, name: "b", config, index: { path: "/other", sha256: "ab" } })).toEqual([]);
});

test("what it began with may lie elsewhere, but not be another, nor be left out", () => {
  const begun = { ...record, init_from: { path: "/a", sha256: "ab" } };
  expect(requireSameRun(begun, { ...begun, init_from: { path: "/b", sha256: "ab" } })).toEqual([]);
  expect(() => requireSameRun(begun, { ...begun, init_from: { path: "/a", sha256: "cd" } })).toThrow(/init_from\.sha256/);
  expect(() => requireSameRun(begun, { ...begun, init_from: null })).toThrow(/init_from/);
});

test("what would make it another run is refused, all of it at once", () => {
  const config = { ...record.config, seed: 8, lora: { r: 8, tiers: [1, 4, 8] }, workers: { count: 2, threads: 4 } };
  const now = { ...record, config, index: { path: "/cache/a", sha256: "cd" }, clients: [{ id: "c0", n: 6 }] };
  expect(() => requireSameRun(record, now)).toThrow(ConfigError);
  try {
    requireSameRun(record, now);
  } catch (error) {
    expect((error as ConfigError).issues.map(({ path }) => path)).toEqual([
      "seed",
      "lora.tiers",
      "workers.threads",
      "index.sha256",
      "clients.0.n",
    ]);
    expect((error as ConfigError).message).toMatch(/lora\.tiers {2}was \[1,8\] when the run began and is \[1,4,8\] now/);
    expect((error as ConfigError).message).toMatch(/index\.sha256 .*see that the data and the model/);
  }
});

test("another torch is noted, and what a run that was killed early had not recorded is not missed", () => {
  expect(requireSameRun(record, { ...record, versions: { torch: "2.14.0" } })).toEqual([
    { path: "versions.torch", was: "2.13.0", is: "2.14.0" },
  ]);
  const { name, config } = record;
  expect(requireSameRun({ name, config }, record)).toEqual([]);
});
