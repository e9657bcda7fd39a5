import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { aggregationSpec, rankAssignmentSpec, selectionSpec } from "../../../src/config/policy-specs.ts";
import { validateRun } from "../../../src/config/build.ts";
import { toFitSpec } from "../../../src/config/fit-spec.ts";
import { createRng, deriveSeed } from "../../../src/base/rng.ts";
import { energy } from "../../../src/adapter/energy.ts";
import { packageRoot } from "../../../src/installation.ts";
import type {
  Aggregation,
  PolicyContext,
  RankAssigner,
  RankedClient,
  Selection,
  SelectionContext,
} from "../../../src/strategy/strategy.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import { flexLora } from "../../../src/strategy/aggregation/flexlora.ts";
import { aggregate, clientsOf, layoutOf, roundContext, updatesOf } from "../../../src/testing/index.ts";
import { readDocument, snippets } from "../../support/documents.ts";

const readme = readFileSync(path.join(packageRoot(), "src/strategy/README.md"), "utf8");
const [method = ""] = snippets(readDocument("configs/README.md"), "js");
const blocks = [...readme.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code = ""]) => code);

/** The declarations of a code block in the README. */
async function run<T>(code: string, names: readonly string[] = []): Promise<T> {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-readme-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "snippet.ts");
  const source = path.join(packageRoot(), "src/index.ts");
  writeFileSync(file, `${code.replaceAll('from "prelort"', `from "${source}"`)}\nexport { ${names.join(", ")} };\n`);
  return (await import(file)) as T;
}

const clients: readonly RankedClient[] = [
  [10, 1],
  [600, 4],
  [20, 2],
].map(([size = 0, r = 0], index) => ({ id: `c${index}`, index, size, r, labelCounts: [], profile: {} }));

test("src/strategy/README.md lists every built-in policy in a table", () => {
  for (const { options } of [selectionSpec, rankAssignmentSpec, aggregationSpec]) {
    for (const { shape } of options) expect(readme).toMatch(new RegExp(`^\\|.*\`${shape.name.value}\` \\(`, "m"));
  }
});

test("the example selection and rank assignment in src/strategy/README.md do what it says", async () => {
  const names = ["largestFirst", "bySize"];
  const { largestFirst, bySize } = await run<{ largestFirst: Selection; bySize: RankAssigner }>(blocks[0] ?? "", names);
  expect(await largestFirst({ clients } as unknown as SelectionContext)).toEqual(["c1", "c2"]);
  expect(clients.map((client) => bySize(client, {} as PolicyContext))).toEqual([1, 4, 1]);
});

test("the example aggregation in src/strategy/README.md is the mean over all clients in any order of arrival", async () => {
  const { plainMean } = await run<{ plainMean: Aggregation }>(blocks[1] ?? "", ["plainMean"]);
  const layout = createLayout({ r: 2, tiers: [1, 2], scale: 1 }, { modules: [{ name: "m", in: 2, out: 2 }], dense: [] });
  const global = { r: 2, rows: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), dense: new Float32Array(0) };
  const [a, b] = [{ ...clients[0], r: 1 } as RankedClient, { ...clients[1], r: 2 } as RankedClient];
  const update = ({ id, r, size }: RankedClient, values: readonly number[]) => {
    const delta = { r, rows: Float32Array.from(values), dense: new Float32Array(0) };
    return { clientId: id, r, n: size, delta, received: plainMean.distribute(global, layout, r) };
  };
  const accumulator = plainMean.begin({
    round: 1,
    layout,
    global,
    clients: [a, b],
    state: {},
    fresh: () => new Float32Array(8),
    rng: () => createRng(deriveSeed(0)),
  });
  await accumulator.add(update(b, [2, 2, 2, 2, 2, 2, 2, 2]));
  await accumulator.add(update(a, [4, 4, 4, 4]));
  const { global: next, coverage } = await accumulator.finish();
  expect([...next.rows]).toEqual([4, 5, 6, 7, 6, 7, 8, 9]); // row 0: + (4 + 2) / 2; row 1: + 2 / 2
  expect(coverage).toEqual([
    { r: 1, clients: 2, examples: 610 },
    { r: 2, clients: 1, examples: 600 },
  ]);
});

test("the example fit options in src/strategy/README.md have a client train half of its components, others in each round", async () => {
  const { halves } = await run<{ halves: Aggregation }>(blocks.find((code) => code.includes("halves")) ?? "", ["halves"]);
  const config = validateRun({
    model: { nameOrPath: "tiny", task: "causal-lm" },
    lora: { r: 8 },
    data: { path: "words.jsonl", text: "{gloss}", clients: 2 },
    strategy: { selection: allClients(), rankAssignment: listRanks([8, 4]), aggregation: halves },
    fit: { lr: 0.1 },
    rounds: 9,
  });
  const client = clients[1] as RankedClient;
  const drawn = Array.from({ length: 9 }, (_, index) => toFitSpec(config, index + 1, client));
  for (const { components, lr, lr_b: ofB } of drawn) expect([new Set(components).size, lr, ofB]).toEqual([2, 0.05, 0.05]);
  expect(new Set(drawn.map(({ components }) => JSON.stringify(components))).size).toBeGreaterThan(1);
  expect(toFitSpec(config, 3, client)).toEqual(drawn[2]);
});

test("the method of one's own in configs/README.md is FlexLoRA at keep 0, and at keep 1 leaves the product as it is", async () => {
  const { slowFlexLora } = await run<{ slowFlexLora: (options: { keep: number }) => Aggregation }>(method);
  const context = roundContext(
    layoutOf({ tiers: [1, 2, 4] }),
    clientsOf([
      { size: 10, r: 1 },
      { size: 30, r: 4 },
      { size: 20, r: 2 },
    ]),
  );
  const { layout, global } = context;
  const after = async (aggregation: Aggregation) => (await aggregate(aggregation, context, updatesOf(context))).global.rows;
  /** ‖B·A − B'·A'‖², of both scaled by s. */
  const distance = (a: Float32Array, b: Float32Array) => {
    const negated = b.slice();
    for (let row = 0; row < layout.r; row++) {
      for (const { offset, in: width } of layout.modules) {
        for (let index = 0; index < width; index++) negated[row * layout.width + offset + index]! *= -1;
      }
    }
    return energy({ ...layout, r: 2 * layout.r }, Float32Array.of(...a, ...negated), 0, 2 * layout.r);
  };
  expect(distance(await after(slowFlexLora({ keep: 0 })), await after(flexLora()))).toBeLessThan(1e-9);
  expect(distance(await after(slowFlexLora({ keep: 1 })), global.rows)).toBeLessThan(1e-9);
  expect(distance(await after(slowFlexLora({ keep: 0.5 })), global.rows)).toBeGreaterThan(1e-3);
});
