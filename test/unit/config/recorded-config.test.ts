import { expect, it } from "vitest";
import { buildRun, describeConfig } from "../../../src/config/build.ts";
import { openRecorded } from "../../../src/config/load.ts";
import { comparableConfig } from "../../../src/config/recorded-config.ts";
import type { ConfigError } from "../../../src/errors.ts";

const recorded = {
  rounds: 1,
  model: { name_or_path: "tiny", task: "causal-lm" },
  lora: { r: 8, target_modules: ["q"] },
  data: { path: "/rows.jsonl", text: "{gloss}", clients: 2, profiles: [{ memory_gib: 2 }, { memory_gib: 2 }] },
  strategy: { rank_assignment: { name: "profile", memory_gib: { 8: 1 } } },
};
const open = (fit: object) => openRecorded({ ...recorded, fit }, "run.json", { inScript: "federate()" }).config;

it("a recorded option that is gone does not count where it had no effect", () => {
  expect(open({ batched_truncations: false, lr: 0.5 })).toEqual(open({ lr: 0.5 }));
});

it("a recorded option that is gone and had an effect is refused by name", () => {
  let issues: ConfigError["issues"] = [];
  try {
    open({ objective: "sum", batched_truncations: true });
  } catch (error) {
    ({ issues } = error as ConfigError);
  }
  expect(issues).toHaveLength(1);
  expect(issues[0]).toMatchObject({ path: "fit.batched_truncations", message: expect.stringMatching(/^is true .*only false is the same/) });
});

it("an option that is gone is no key of a config file", () => {
  expect(() => openRecorded({ ...recorded, fit: { batched_truncation: false } }, "run.json", { inScript: "" })).toThrow("is not a key");
});

it("configs compare by what they mean, whether or not the version that recorded them knew every option", () => {
  const now = JSON.parse(JSON.stringify(describeConfig(buildRun(open({}))))) as { fit: object; lora: object };
  expect(comparableConfig(now)).toMatchObject(now);
  const { local_steps: _, ...fit } = now.fit as { readonly local_steps: number };
  const { scale: __, ...lora } = now.lora as { readonly scale: number };
  expect(comparableConfig({ ...now, lora, fit: { ...fit, batched_truncations: false } })).toEqual(comparableConfig(now));
  expect(comparableConfig({ ...now, fit: { ...fit, local_steps: 11 } })).not.toEqual(comparableConfig(now));
});

it("what is not valid stays as it was recorded", () => {
  const odd = { rounds: -1, fit: { batched_truncations: true, lr: 1 }, strategy: { selection: { name: "largestFirst" } }, other: [1] };
  expect(comparableConfig(odd)).toEqual(odd);
  expect(comparableConfig(null)).toBeNull();
});
