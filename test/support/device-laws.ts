import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildRun, federate, loadConfig } from "../../src/index.ts";
import { environmentPython, packageRoot } from "../../src/installation.ts";
import { configOf, type DeviceSetting, makeModel, type Trained, trainOn } from "../bench/device-run.ts";
import type { Context } from "../bench/experiment.ts";
import { type Kind, KINDS } from "../bench/kinds.ts";

/**
 * What every kind of training keeps on a device. `lacking` says which are tried, and what the machine lacks for each: such a test is
 * skipped with that as its reason.
 */
export function deviceLaws(setting: DeviceSetting, lacking: Readonly<Record<string, string | undefined>>): void {
  const context: { -readonly [K in keyof Context]: Context[K] } = {
    python: environmentPython(),
    flower: "",
    folder: "",
    signal: new AbortController().signal,
  };
  beforeAll(() => {
    context.folder = mkdtempSync(path.join(tmpdir(), "prelort-device-"));
  });
  afterAll(() => rmSync(context.folder, { recursive: true, force: true }));

  const trained = new Map<string, Promise<Trained>>();
  const first = (name: string): Promise<Trained> => {
    const run = trained.get(name) ?? trainOn(setting, name, (KINDS[name] as Kind).set, context);
    trained.set(name, run);
    return run;
  };

  describe(`on ${setting.device}`, () => {
    test.for(Object.entries(lacking))("%s learns, and gives the same bytes again", async ([name, lacks], { skip }) => {
      skip(lacks !== undefined, `needs ${lacks}`);
      const { set, against = "f32", sameBytesAs } = KINDS[name] as Kind;
      const [ours, plain] = [await first(name), await first("f32")];
      const again = await (sameBytesAs ? first(sameBytesAs) : trainOn(setting, `${name}-again`, set, context));
      expect(ours.sha256).toBe(again.sha256);
      expect(ours.losses[1]).toBeLessThan(ours.losses[0]);
      expect(Math.abs(ours.losses[0] / plain.losses[0] - 1)).toBeLessThan(0.02);
      expect(ours.parameters).toBe(plain.parameters);
      // The kind is not ignored.
      if (name !== "f32" && !sameBytesAs) expect(ours.sha256).not.toBe((await first(against)).sha256);
    });

    test("a run that was stopped and resumed gives the bytes of one that was not", async ({ skip }) => {
      skip(lacking["f32"] !== undefined, `needs ${lacking["f32"]}`);
      const set = [...configOf(setting, await makeModel(setting, context)), "name=resumed", `runs_dir=${JSON.stringify(context.folder)}`];
      const config = buildRun(await loadConfig(path.join(packageRoot(), "configs/generation-llama.yaml"), { set }));
      const controller = new AbortController();
      const run = federate({ ...config, signal: controller.signal });
      run.result.catch(() => {});
      const stopInRound2 = async () => {
        for await (const event of run) if (event.type === "client-fit" && event.round === 2) controller.abort();
      };
      await expect(stopInRound2()).rejects.toMatchObject({ kind: "interrupted" });
      expect((await federate({ ...config, resume: true }).result).sha256).toBe((await first("f32")).sha256);
    });
  });
}
