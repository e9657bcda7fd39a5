import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it, test } from "vitest";
import { initialAdapter } from "../../../src/adapter/initialise.ts";
import { type AdapterLayout, createLayout } from "../../../src/adapter/layout.ts";
import type { AdapterFactors } from "../../../src/adapter/peft-adapter.ts";
import { exportRun } from "../../../src/artifacts/export-run.ts";
import { originOf, readSource } from "../../../src/artifacts/init-source.ts";
import { startFrom } from "../../../src/artifacts/init-adapter.ts";
import { randomAdapter } from "../../../src/testing/index.ts";
import { argumentIssue, issue, issuesOf } from "../../support/config-issues.ts";
import { madeRuns } from "../../support/made-run.ts";

const shape = {
  modules: [
    { name: "x.q", in: 7, out: 6 },
    { name: "x.v", in: 7, out: 8 },
  ],
  dense: [{ name: "head.weight", shape: [2, 2] }],
};
const layoutOf = (r: number, scale = 2) => createLayout({ r, tiers: [r], scale }, shape);
const initialOf = (layout: AdapterLayout) => initialAdapter(layout, Float32Array.of(1, 2, 3, 4), "aa");
const trained = { layout: layoutOf(4), adapter: randomAdapter(layoutOf(4), 4, "trained") };

const runs = madeRuns();
let [run, peft] = ["", ""];
beforeAll(async () => {
  run = await runs.make({ name: "before", layout: trained.layout, rounds: [trained.adapter], modulesToSave: ["head"] });
  peft = (await exportRun(run, { out: path.join(runs.folder, "peft") })).directory;
});

/** By hand: [out, in] of a module's s·B[:, :r]·A[:r], summed in float64. */
function product({ scale, width, modules }: AdapterLayout, rows: Float32Array, name: string, r: number): readonly number[] {
  const { offset, in: input, out } = modules.find((module) => module.name === name)!;
  return Array.from({ length: out * input }, (_, index) => {
    const [o, i] = [Math.floor(index / input), index % input];
    let sum = 0;
    for (let row = 0; row < r; row++) sum += rows[row * width + offset + input + o]! * rows[row * width + offset + i]!;
    return scale * sum;
  });
}
const norm = (values: readonly number[]) => Math.hypot(...values);
const distance = (a: readonly number[], b: readonly number[]) => norm(a.map((value, index) => value - b[index]!));

describe("a PEFT adapter", () => {
  it.each([4, 6])("gives the same product at rank %i and any scale of this run, and the parameters trained in full", async (r) => {
    const layout = layoutOf(r, 0.5);
    const { adapter, r: own, lost } = startFrom(await readSource(peft), layout, initialOf(layout));
    for (const { name } of shape.modules) {
      const expected = product(trained.layout, trained.adapter.rows, name, 4);
      expect(distance(product(layout, adapter.rows, name, r), expected)).toBeLessThan(1e-5 * norm(expected));
    }
    expect([own, lost]).toEqual([4, 0]);
    expect(adapter.dense).toEqual(trained.adapter.dense);
  });

  it("is factorised into nested order: each prefix is closer than in its own order, and A and B are balanced", async () => {
    const { adapter } = startFrom(await readSource(peft), trained.layout, initialOf(trained.layout));
    for (const { name, in: input, out } of shape.modules) {
      const whole = product(trained.layout, trained.adapter.rows, name, 4);
      const errors = [1, 2, 3].map((r) => distance(product(trained.layout, adapter.rows, name, r), whole));
      for (const [index, error] of errors.entries()) {
        expect(error).toBeLessThan(distance(product(trained.layout, trained.adapter.rows, name, index + 1), whole));
      }
      const { offset } = trained.layout.modules.find((module) => module.name === name)!;
      const [a, b] = [adapter.rows.subarray(offset, offset + input), adapter.rows.subarray(offset + input, offset + input + out)];
      expect(Math.hypot(...a)).toBeCloseTo(Math.hypot(...b), 5);
    }
  });

  it("of a larger rank is truncated to its best approximation, and the lost energy is reported", async () => {
    const layout = layoutOf(2);
    const { adapter, lost } = startFrom(await readSource(peft), layout, initialOf(layout));
    const squares = (r: number) =>
      shape.modules.reduce((sum, { name }) => {
        const whole = product(trained.layout, trained.adapter.rows, name, 4);
        return sum + (r === 0 ? norm(whole) : distance(product(layout, adapter.rows, name, r), whole)) ** 2;
      }, 0);
    expect(lost).toBeGreaterThan(0.001);
    expect(lost).toBeCloseTo(squares(2) / squares(0), 5);
  });

  it("of a smaller rank is extended by random components with B = 0", async () => {
    const layout = layoutOf(6);
    const initial = initialOf(layout);
    const { adapter } = startFrom(await readSource(peft), layout, initial);
    expect(adapter.rows.subarray(4 * layout.width)).toEqual(initial.rows.subarray(4 * layout.width));
  });
});

describe("a run", () => {
  it("gives its rows unchanged, truncated or extended", async () => {
    const source = await readSource(run);
    const same = startFrom(source, trained.layout, initialOf(trained.layout));
    expect(same.adapter.rows).toEqual(trained.adapter.rows);
    const [small, large] = [layoutOf(3), layoutOf(5)];
    expect(startFrom(source, small, initialOf(small)).adapter.rows).toEqual(trained.adapter.rows.subarray(0, 3 * small.width));
    const filled = startFrom(source, large, initialOf(large)).adapter.rows;
    expect(filled.subarray(0, 4 * large.width)).toEqual(trained.adapter.rows);
    expect(filled.subarray(4 * large.width)).toEqual(initialOf(large).rows.subarray(4 * large.width));
  });

  it("of another scale gives the same product", async () => {
    const layout = layoutOf(4, 0.3);
    const { adapter } = startFrom(await readSource(run), layout, initialOf(layout));
    const expected = product(trained.layout, trained.adapter.rows, "x.v", 4);
    expect(distance(product(layout, adapter.rows, "x.v", 4), expected)).toBeLessThan(1e-5 * norm(expected));
  });
});

test("all modules and shapes that differ are reported together", async () => {
  const other = {
    modules: [
      { name: "x.q", in: 7, out: 5 },
      { name: "x.k", in: 7, out: 6 },
    ],
    dense: [{ name: "head.weight", shape: [3, 2] }],
  };
  const layout = createLayout({ r: 2, tiers: [2], scale: 2 }, other);
  const initial = initialAdapter(layout, new Float32Array(6), "aa");
  const source = await readSource(run);
  expect(await issuesOf(() => startFrom(source, layout, initial))).toEqual([
    issue("lora.init_from", [run, "not adapt", "x.k", "lora.target_modules"]),
    issue("lora.init_from", [run, "adapts", "x.v", "lora.target_modules"]),
    issue("lora.init_from", [run, "x.q", 7, 5, 7, 6]),
    issue("lora.init_from", [run, "head.weight", "[3, 2]", "[2, 2]"]),
  ]);
  const bare = createLayout({ r: 2, tiers: [2], scale: 2 }, { ...shape, dense: [] });
  expect(await issuesOf(() => startFrom(source, bare, initialAdapter(bare, new Float32Array(0), "aa")))).toEqual([
    issue("lora.init_from", [run, "head.weight", "lora.modules_to_save"]),
  ]);
});

/** Of rank 1 in each module, or 2 in the first, with B = 0. */
function blank(a: (length: number) => Float32Array, first = 1): AdapterFactors {
  const modules = shape.modules.map(({ name, in: input, out }, index) => {
    const r = index === 0 ? first : 1;
    return [name, { in: input, out, r, a: a(r * input), b: new Float32Array(r * out), scale: 1 }] as const;
  });
  return { modules: new Map(modules), dense: new Map() };
}
const startOf = (factors: AdapterFactors, layout: AdapterLayout) =>
  startFrom({ factors, isNested: false, origin: { path: "a", sha256: "" } }, layout, initialOf(layout));

test("an adapter with B = 0, an initialisation by somebody else, gives its A as it is, at any rank", () => {
  const layout = layoutOf(3);
  const initial = initialOf(layout);
  const { adapter, lost } = startOf(
    blank((length) => Float32Array.from({ length }, (_, index) => index + 1), 2),
    layout,
  );
  const rowOf = (row: number, name: string) => {
    const { offset, in: input } = layout.modules.find((module) => module.name === name)!;
    return (rows: Float32Array) => [...rows.subarray(row * layout.width + offset, row * layout.width + offset + input)];
  };
  expect(rowOf(0, "x.q")(adapter.rows)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(rowOf(1, "x.q")(adapter.rows)).toEqual([8, 9, 10, 11, 12, 13, 14]);
  expect(rowOf(0, "x.v")(adapter.rows)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  for (const [row, name] of [
    [2, "x.q"],
    [1, "x.v"],
    [2, "x.v"],
  ] as const)
    expect(rowOf(row, name)(adapter.rows)).toEqual(rowOf(row, name)(initial.rows));
  expect(product(layout, adapter.rows, "x.q", 3).every((value) => value === 0)).toBe(true);
  expect(lost).toBe(0);
  const small = layoutOf(1);
  const cut = startOf(
    blank((length) => new Float32Array(length).fill(0.5), 2),
    small,
  );
  expect([cut.r, cut.lost, cut.adapter.rows[small.modules[0]!.offset]]).toEqual([2, 0, 0.5]);
});

test("in an adapter whose B is zero in one module alone, that module keeps its A, and the other is factorised", async () => {
  const { factors, ...source } = await readSource(peft);
  const own = factors.modules.get("x.v")!;
  const modules = new Map(factors.modules).set("x.v", { ...own, b: new Float32Array(own.b.length) });
  const layout = layoutOf(4);
  const rowsOf = (adapter: { readonly rows: Float32Array }, name: string) => {
    const { offset, in: input } = layout.modules.find((module) => module.name === name)!;
    return [0, 1, 2, 3].flatMap((row) => [...adapter.rows.subarray(row * layout.width + offset, row * layout.width + offset + input)]);
  };
  const { adapter } = startFrom({ ...source, factors: { ...factors, modules } }, layout, initialOf(layout));
  expect(rowsOf(adapter, "x.v")).toEqual([...own.a]);
  expect(rowsOf(adapter, "x.q")).toEqual(rowsOf(startFrom({ ...source, factors }, layout, initialOf(layout)).adapter, "x.q"));
});

test("parameters that the adapter did not train in full start as in the base model", () => {
  const layout = layoutOf(2);
  const { adapter, lost } = startOf(
    blank((length) => new Float32Array(length)),
    layout,
  );
  expect(adapter).toEqual(initialOf(layout));
  expect(lost).toBe(0);
});

describe("the recorded adapter that a run starts from", () => {
  it("is refused if it has changed, but not if it was moved or removed", async () => {
    const folder = path.join(runs.folder, "kept");
    await exportRun(run, { out: folder });
    const origin = await originOf({ lora: { init_from: folder } as never });
    expect(origin).toMatchObject({ path: folder, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
    const record = JSON.parse(JSON.stringify({ init_from: { path: folder, sha256: origin!.sha256, config_sha256: origin!.configSha256 } }));
    const moved = `${folder}-moved`;
    renameSync(folder, moved);
    expect(await originOf({ lora: { init_from: moved } as never }, record)).toEqual(origin);
    expect(await originOf({ lora: { init_from: folder } as never }, record)).toEqual(origin);

    await exportRun(run, { r: 2, out: folder });
    expect(await issuesOf(() => originOf({ lora: { init_from: folder } as never }, record))).toEqual([
      issue("lora.init_from", [folder, origin!.sha256]),
    ]);
    rmSync(moved, { recursive: true });
  });

  it("is the recorded round of a run, even if the run has grown", async () => {
    const growing = await runs.make({
      name: "growing",
      layout: trained.layout,
      rounds: [randomAdapter(trained.layout, 4, "0"), trained.adapter],
    });
    const { origin } = await readSource(growing);
    expect(origin.round).toBe(1);
    expect((await readSource(growing, { ...origin, round: 1 })).origin).toEqual(origin);
    const lora = { init_from: growing } as never;
    expect((await originOf({ lora }, undefined, 0))?.round).toBe(0);
    expect(await issuesOf(() => originOf({ lora }, undefined, 2))).toEqual([argumentIssue("round", [0, 1, 2])]);
    expect(await issuesOf(() => originOf({ lora: {} as never }, undefined, 0))).toEqual([argumentIssue("round", ["lora.init_from"])]);
  });

  it("is no config error if its run is damaged, and the previous round can be used", async () => {
    const adapters = [randomAdapter(trained.layout, 4, "0"), trained.adapter];
    const damaged = await runs.make({ name: "damaged", layout: trained.layout, rounds: adapters });
    writeFileSync(path.join(damaged, "rounds/1/global.safetensors"), "");
    const lora = { init_from: damaged } as never;
    await expect(originOf({ lora })).rejects.toMatchObject({ kind: "run", message: expect.stringMatching(/--round 0$/) });
    expect((await originOf({ lora }, undefined, 0))?.round).toBe(0);
  });
});

describe("an unusable source is an issue of the config", () => {
  it.each([
    ["nothing", {}, /no such folder|neither/],
    [
      "pickled",
      { "adapter_config.json": "{}", "adapter_model.bin": "" },
      /expected adapter_model\.safetensors, got adapter_model\.bin, which may run code/,
    ],
    ["unfinished", { "run.json": '{"config": {}}' }, /ended before its data and model were ready.*prelort resume/],
  ])("%s", async (name, files, message) => {
    const folder = path.join(runs.folder, name);
    mkdirSync(folder);
    for (const [file, content] of Object.entries(files)) writeFileSync(path.join(folder, file), content);
    await expect(readSource(folder)).rejects.toThrow(message);
    await expect(readSource(folder)).rejects.toMatchObject({ kind: "config", issues: [{ path: "lora.init_from" }] });
  });
});
