import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { API } from "typescript/unstable/sync";
import { expect, onTestFinished, test } from "vitest";
import { openMetricsFile, readMetrics, type RoundMetrics } from "../../../src/records/metrics.ts";

const tier = {
  r: 2,
  loss: 0.5,
  perplexity: null,
  accuracy: 0.25,
  macroF1: 0.125,
  rougeL: null,
  own: [{ name: "a_b", value: 1 }],
  examples: 8,
  bitsPerByte: null,
  ece: 0.0625,
};
const round: RoundMetrics = {
  round: 1,
  byTier: [tier],
  merged: null,
  byClient: [{ id: "c0", ...tier }],
  energy: [{ r: 2, energy: 3 }],
  coverage: [{ r: 2, clients: 1, examples: 4 }],
  fitLoss: 1.5,
  reported: ["c0"],
  failed: ["c1"],
  late: ["c2"],
  passes: 5,
  bytesDown: 6,
  bytesUp: 7,
};
/** Keys and their order must not change: run directories on users' disks have them. */
const TIER =
  '"r":2,"loss":0.5,"perplexity":null,"accuracy":0.25,"macro_f1":0.125,"rouge_l":null,"own":[{"name":"a_b","value":1}],"examples":8,"bits_per_byte":null,"ece":0.0625';
const LINE =
  `{"round":1,"by_tier":[{${TIER}}],"merged":null,"by_client":[{"id":"c0",${TIER}}],"energy":[{"r":2,"energy":3}],` +
  '"coverage":[{"r":2,"clients":1,"examples":4}],"fit_loss":1.5,"reported":["c0"],"failed":["c1"],"late":["c2"],' +
  '"passes":5,"bytes_down":6,"bytes_up":7}';

function file(): string {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-metrics-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return path.join(folder, "metrics.jsonl");
}

test("a round's metrics have fixed bytes and are read back with keys in the same order", async () => {
  const name = file();
  const metrics = openMetricsFile(name);
  await metrics.write(round);
  await metrics.close();
  expect(readFileSync(name, "utf8")).toBe(`${LINE}\n`);
  const { lines } = await readMetrics(name);
  expect(JSON.stringify(lines[0]?.metrics)).toBe(JSON.stringify(round));
});

test("a line of metrics without late clients, from an earlier version, is read as having none", async () => {
  const name = file();
  writeFileSync(name, `${LINE.replace('"late":["c2"],', "")}\n`);
  expect((await readMetrics(name)).lines[0]?.metrics).toEqual({ ...round, late: [] });
});

test("every figure of the public metrics types has a comment for editors to show", () => {
  const root = path.join(import.meta.dirname, "../../..");
  const api = new API({ cwd: root });
  onTestFinished(() => api.close());
  const [project] = api.updateSnapshot({ openProject: path.join(root, "tsconfig.json") }).getProjects();
  const source = project?.program.getSourceFile(path.join(root, "src/records/metrics.ts"));
  const module = source && project?.checker.getSymbolAtLocation(source);
  if (!project || !module) throw new Error("metrics.ts is a module of the project");
  const { checker } = project;
  const exported = checker.getExportsOfModule(module).filter(({ name }) => ["TierMetrics", "RoundMetrics"].includes(name));
  const fields = exported.flatMap((symbol) => checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol)));
  const shown = new Map(fields.map((field) => [field.name, checker.getDocumentationCommentOfSymbol(field)]));
  expect([...shown.keys()]).toEqual(expect.arrayContaining([...Object.keys(tier), ...Object.keys(round)]));
  expect([...shown].filter(([, comment]) => comment === "")).toEqual([]);
  expect(shown.get("late")).toMatch(/^Clients /);
});
