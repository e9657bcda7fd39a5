import { expect, it } from "vitest";
import { buildRun, describeConfig } from "../../../src/config/build.ts";
import { openRecorded } from "../../../src/config/load.ts";
import { comparableConfig } from "../../../src/config/recorded-config.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const recorded = {
  rounds: 1,
  model: { name_or_path: "tiny", task: "causal-lm" },
  lora: { r: 8, target_modules: ["q"] },
  data: { path: "/rows.jsonl", text: "{gloss}", clients: 2, profiles: [{ memory_gib: 2 }, { memory_gib: 2 }] },
  strategy: { rank_assignment: { name: "profile", memory_gib: { 8: 1 } } },
};
const open = (fit: object) => openRecorded({ ...recorded, fit }, "run.json", { inScript: "federate()" }).config;

it("a removed option in a record is ignored if it had no effect", () => {
  expect(open({ batched_truncations: false, lr: 0.5 })).toEqual(open({ lr: 0.5 }));
});

it("a removed option in a record is refused by name if it had an effect", async () => {
  expect(await issuesOf(() => open({ objective: "sum", batched_truncations: true }))).toEqual([
    issue("fit.batched_truncations", ["true", "false"], expect.stringMatching(/^run\.json:1:\d+$/)),
  ]);
});

it("a similar name of a removed option is an unknown key", async () => {
  expect(await issuesOf(() => open({ batched_truncation: false }))).toEqual([
    issue("fit.batched_truncation", ["objective"], expect.stringMatching(/^run\.json:1:\d+$/)),
  ]);
});

it("configs compare by meaning, even if the version that recorded one lacked some options", () => {
  const now = JSON.parse(JSON.stringify(describeConfig(buildRun(open({}))))) as { fit: object; lora: object };
  expect(comparableConfig(now)).toMatchObject(now);
  const { local_steps: _, ...fit } = now.fit as { readonly local_steps: number };
  const { scale: __, ...lora } = now.lora as { readonly scale: number };
  expect(comparableConfig({ ...now, lora, fit: { ...fit, batched_truncations: false } })).toEqual(comparableConfig(now));
  // As versions before these options recorded it.
  const { keep_rounds: kept, partial_sums: sums, ...earlier } = now as typeof now & Readonly<Record<string, unknown>>;
  expect([kept, sums]).toEqual(["all", false]);
  expect(comparableConfig(earlier)).toEqual(comparableConfig(now));
  expect(comparableConfig(earlier)).not.toEqual(comparableConfig({ ...now, keep_rounds: 2 }));
  expect(comparableConfig({ ...now, fit: { ...fit, local_steps: 11 } })).not.toEqual(comparableConfig(now));
});

it("invalid values are kept as they were recorded", () => {
  const odd = { rounds: -1, fit: { batched_truncations: true, lr: 1 }, strategy: { selection: { name: "largestFirst" } }, other: [1] };
  expect(comparableConfig(odd)).toMatchObject(odd);
  expect(comparableConfig(null)).toBeNull();
});
