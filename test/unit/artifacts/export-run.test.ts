import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, onTestFinished, test, vi } from "vitest";
import type { Adapter } from "../../../src/adapter/adapter.ts";
import { createLayout } from "../../../src/adapter/layout.ts";
import { peftTensors } from "../../../src/adapter/peft.ts";
import { exportRun } from "../../../src/artifacts/export-run.ts";
import { common } from "../../../src/config/sections.ts";
import { isRefusal, takeLock } from "../../../src/records/lock.ts";
import { rememberCode } from "../../../src/records/named-code.ts";
import { fLoRA } from "../../../src/strategy/aggregation/flora.ts";
import { decode } from "../../../src/tensor/encoded.ts";
import { decodeHeader, decodeSafetensors } from "../../../src/tensor/safetensors.ts";
import { randomAdapter } from "../../../src/testing/index.ts";
import { argumentIssue, issuesOf } from "../../support/config-issues.ts";
import { madeRuns } from "../../support/made-run.ts";

const layout = createLayout({ r: 4, tiers: [1, 2, 4], scale: 0.7 }, { modules: [{ name: "x.q", in: 6, out: 5 }], dense: [] });
const rounds = ["zero", "one", "two"].map((seed) => randomAdapter(layout, 4, seed));
const runs = madeRuns();
let run: string;
beforeAll(async () => {
  run = await runs.make({ name: "tiny", layout, rounds });
});

const out = (name: string) => path.join(runs.folder, "exports", name);
const configIn = (folder: string) => JSON.parse(readFileSync(path.join(folder, "adapter_config.json"), "utf8")) as Record<string, unknown>;
const wanted = (adapter: Adapter, r: number) =>
  new Map([...peftTensors(layout, adapter, r)].map(([name, { shape, values }]) => [name, { shape, values }]));
const tensorsIn = (folder: string) => decodeSafetensors(readFileSync(path.join(folder, "adapter_model.safetensors"))).tensors;

test("the last committed round is exported at the full rank, with lora_alpha = s·r", async () => {
  const { directory, ...saved } = await exportRun(run, { out: out("last") });
  expect(saved).toEqual({ run: "tiny", round: 2, r: 4, merged: false, dtype: "f32", base: "some/base", remarks: [] });
  expect(configIn(directory)).toMatchObject({ r: 4, lora_alpha: 2.8, base_model_name_or_path: "some/base", modules_to_save: null });
  expect(new Map(tensorsIn(directory))).toEqual(wanted(rounds[2]!, 4));
});

test("an earlier round and a rank that is not a tier are exported when asked for", async () => {
  const { directory } = await exportRun(run, { round: 1, r: 3, out: out("other") });
  expect(configIn(directory)["r"]).toBe(3);
  expect(new Map(tensorsIn(directory))).toEqual(wanted(rounds[1]!, 3));
  expect(JSON.parse(readFileSync(path.join(directory, "prelort.json"), "utf8"))).toMatchObject({ run: "tiny", round: 1, r: 3, scale: 0.7 });
});

test("the base is called as asked for", async () => {
  const { directory, base } = await exportRun(run, { baseModel: "org/on-the-hub", out: out("called") });
  expect([base, configIn(directory)["base_model_name_or_path"]]).toEqual(["org/on-the-hub", "org/on-the-hub"]);
});

test.each([
  ["bf16", "BF16", 2 ** -8],
  ["f16", "F16", 2 ** -11],
] as const)("an export as %s has half the bytes, with each value rounded to the nearest", async (dtype, stored, error) => {
  const { directory } = await exportRun(run, { dtype, out: out(dtype) });
  const bytes = readFileSync(path.join(directory, "adapter_model.safetensors"));
  const expected = wanted(rounds[2]!, 4);
  for (const [name, tensor] of decodeHeader(bytes, bytes.length, "it").tensors) {
    expect(tensor.dtype).toBe(stored);
    const { values } = expected.get(name)!;
    const read = decode({ dtype: stored, length: values.length, bytes: bytes.subarray(tensor.from, tensor.to) });
    for (const [index, value] of values.entries())
      expect(Math.abs(read[index]! - value)).toBeLessThanOrEqual(error * Math.abs(value) + 1e-7);
  }
});

test("exporting a run in progress keeps its lock and writes nothing to its directory", async () => {
  const busy = await runs.make({ name: "busy", layout, rounds });
  const lock = await takeLock(busy);
  const before = new Set(readdirSync(busy, { recursive: true, encoding: "utf8" }));
  await exportRun(busy, { out: out("busy") });
  expect(new Set(readdirSync(busy, { recursive: true, encoding: "utf8" }))).toEqual(before);
  expect(await takeLock(busy)).toMatchObject({ isThisProcess: true });
  if (!isRefusal(lock)) lock.release();
});

test("FLoRA's merged components are exported as an adapter", async () => {
  const merged = { rows: randomAdapter(layout, 4, "merged").rows, ends: [0, 4] };
  const global = { ...rounds[0]!, rows: new Float32Array(4 * layout.width), merged };
  const directory = await runs.make({ name: "flora", layout, rounds: [global], aggregation: { name: "flora" } });
  const { directory: folder } = await exportRun(directory, { r: 2, out: out("flora") });
  expect(new Map(tensorsIn(folder))).toEqual(wanted(fLoRA().present!(global, layout), 2));
});

test("a custom aggregation must be passed, and presents its adapter", async () => {
  const directory = await runs.make({ name: "own", layout, rounds, aggregation: { name: "custom" } });
  expect(await issuesOf(() => exportRun(directory, { out: out("own") }))).toEqual([
    argumentIssue("run-dir", [directory, "exportRun(run, { aggregation })"]),
  ]);
  const aggregation = { ...fLoRA(), present: () => rounds[0]! };
  const { directory: folder } = await exportRun(directory, { aggregation, out: out("own") });
  expect(new Map(tensorsIn(folder))).toEqual(wanted(rounds[0]!, 4));
});

test("an aggregation of one's own is needed only if it presents its adapter, and only if somebody named its file here", async () => {
  vi.stubEnv("PRELORT_CACHE", path.join(runs.folder, "cache"));
  onTestFinished(() => void vi.unstubAllEnvs());
  const plain = await runs.make({ name: "plain", layout, rounds, aggregation: "/not/there/mine.mjs#plain", presents: false });
  expect(new Map(tensorsIn((await exportRun(plain, { out: out("plain") })).directory))).toEqual(wanted(rounds[2]!, 4));
  const file = path.join(runs.folder, "mine.mjs");
  writeFileSync(
    file,
    "export const zero = { distribute() {}, begin() {}, present: (global) => ({ ...global, rows: global.rows.map(() => 0) }) };\n",
  );
  const presenting = await runs.make({ name: "presenting", layout, rounds, aggregation: `${file}#zero`, presents: true });
  expect(await issuesOf(() => exportRun(presenting, { out: out("presenting") }))).toEqual([
    argumentIssue("run-dir", [presenting, `${file}#zero`, "present()", "exportRun(run, { aggregation })"]),
  ]);
  const model = common.model.parse({ nameOrPath: "m", task: "causal-lm" });
  await rememberCode({ model, workers: {}, strategy: { aggregation: { module: `${file}#zero` } } });
  const { directory } = await exportRun(presenting, { out: out("presenting") });
  expect(new Map(tensorsIn(directory))).toEqual(wanted({ ...rounds[2]!, rows: rounds[2]!.rows.map(() => 0) }, 4));
});

test("the error for a damaged round proposes the previous one, which can be exported", async () => {
  const directory = await runs.make({ name: "damaged", layout, rounds });
  const file = path.join(directory, "rounds/2/global.safetensors");
  const bytes = readFileSync(file);
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(file, bytes);
  await expect(exportRun(directory, { out: out("damaged") })).rejects.toMatchObject({
    kind: "run",
    message: expect.stringMatching(/rounds\/2\/global\.safetensors .*\b[0-9a-f]{64}\b.*\b[0-9a-f]{64}\b.*--round 1$/),
  });
  expect(existsSync(out("damaged"))).toBe(false);
  expect((await exportRun(directory, { round: 1, out: out("damaged") })).round).toBe(1);
});

test("invalid options are refused by name", async () => {
  expect(await issuesOf(() => exportRun(run, { r: 5, out: out("x") }))).toEqual([argumentIssue("r", [1, 4, 5])]);
  expect(await issuesOf(() => exportRun(run, { round: 3, out: out("x") }))).toEqual([argumentIssue("round", [0, 2, 3])]);
  expect(await issuesOf(() => exportRun(runs.folder, { out: out("x") }))).toEqual([argumentIssue("run-dir", [runs.folder])]);
  expect(existsSync(out("x"))).toBe(false);
});
