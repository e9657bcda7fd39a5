import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DOMParser } from "linkedom";
import { beforeAll, describe, expect, it } from "vitest";
import { qualityOverRank, qualityOverRounds } from "../../../src/report/charts.ts";
import { readRun, type RecordedRun } from "../../../src/records/read-run.ts";
import type { TierMetrics } from "../../../src/records/metrics.ts";
import { writeRunFixture } from "../../support/trained-run.ts";

let recorded: RecordedRun;
beforeAll(async () => {
  const directory = await mkdtemp(join(tmpdir(), "prelort-charts-"));
  await writeRunFixture(directory);
  recorded = await readRun(directory);
  await rm(directory, { recursive: true });
});

/** A run of rounds 0 to `last` with these metrics. */
function run(last: number, tiers: readonly number[], metrics: (round: number, r: number) => Partial<TierMetrics>): RecordedRun {
  const [template] = recorded.rounds;
  const [tier] = template?.byTier ?? [];
  if (!template || !tier) throw new Error("the fixture has rounds");
  const blank = { ...tier, loss: null, perplexity: null, accuracy: null, macroF1: null, examples: 256 };
  const rounds = Array.from({ length: last + 1 }, (_, round) => ({
    ...template,
    round,
    byTier: tiers.map((r) => ({ ...blank, r, ...metrics(round, r) })),
  }));
  return { ...recorded, rounds, record: { ...recorded.record, layout: { ...recorded.record.layout, r: tiers.at(-1) ?? 1, tiers } } };
}

function parse(svg: string) {
  const { documentElement } = new DOMParser().parseFromString(svg, "image/svg+xml");
  const texts = (selector: string) => [...documentElement.querySelectorAll(selector)].map(({ textContent }) => textContent ?? "");
  return {
    lines: [...documentElement.querySelectorAll("[aria-label=line] path")].map((path) => path.getAttribute("d") ?? ""),
    bands: documentElement.querySelectorAll("[aria-label=area] path").length,
    bars: documentElement.querySelectorAll("[aria-label=rule] line").length,
    xTicks: texts('[aria-label="x-axis tick label"] text'),
    yTicks: texts('[aria-label="y-axis tick label"] text').map(Number),
    labels: [...documentElement.querySelectorAll("[aria-label=text] text")].map((text) => ({
      name: text.textContent ?? "",
      y: Number(/,([\d.]+)\)/.exec(text.getAttribute("transform") ?? "")?.[1]),
    })),
    label: documentElement.getAttribute("aria-label"),
  };
}

const TIERS = [1, 2, 4];
const withInterval = (accuracy: number) => ({ accuracy, intervals: [{ name: "accuracy", low: accuracy - 0.06, high: accuracy + 0.05 }] });

describe("quality over rounds", () => {
  it("fits its y axis to lines between 70 % and 78 % and their interval, and starts at round 0", () => {
    const chart = qualityOverRounds(run(8, TIERS, (round) => withInterval(0.7 + 0.01 * round)));
    const { lines, bands, xTicks, yTicks } = parse(chart.svg);
    expect(lines).toHaveLength(3);
    expect(xTicks).toEqual(["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    // Intervals from 64 % to 83 %.
    expect(Math.min(...yTicks)).toBeGreaterThanOrEqual(60);
    expect(Math.min(...yTicks)).toBeLessThan(70);
    expect(Math.max(...yTicks)).toBeLessThanOrEqual(85);
    expect(bands).toBe(1);
    expect(chart.notes[0]).toMatch(/95 % .*interval of rank 4\b.* 256 /);
  });

  it("draws the majority's share if it is near, and notes its value if it is too far away", () => {
    const far = qualityOverRounds(run(2, TIERS, () => ({ accuracy: 0.9 })));
    expect(far.notes.find((note) => note.includes("Majority"))).toMatch(/ 34\.2 %.*outside/);
    expect(parse(far.svg).labels.map(({ name }) => name)).not.toContain("majority");
    const near = qualityOverRounds(run(2, TIERS, (round) => ({ accuracy: 0.2 + 0.2 * round })));
    expect(parse(near.svg).labels.map(({ name }) => name)).toContain("majority");
    expect(near.notes.find((note) => note.includes("Majority"))).toMatch(/ 34\.2 %(?!.*outside)/);
  });

  it("names every line at its end, without overlapping names", () => {
    const { labels } = parse(qualityOverRounds(run(3, TIERS, (_, r) => ({ loss: 2 + r / 1000 }))).svg);
    expect(labels.map(({ name }) => name)).toEqual(["r=1", "r=2", "r=4"]);
    const heights = labels.map(({ y }) => y).toSorted((a, b) => a - b);
    for (const [index, y] of heights.slice(1).entries()) expect(y - (heights[index] ?? 0)).toBeGreaterThanOrEqual(12.9);
  });

  it("draws the interval of a loss as well, and notes where an earlier version recorded none", () => {
    const chart = qualityOverRounds(run(3, TIERS, () => ({ loss: 2 })));
    expect(parse(chart.svg).bands).toBe(0);
    expect(chart.notes).toEqual([expect.stringMatching(/^No interval\b.*\brecorded none\b/)]);
    const drawn = qualityOverRounds(run(3, TIERS, () => ({ loss: 2, intervals: [{ name: "loss", low: 1.5, high: 2.5 }] })));
    expect(parse(drawn.svg).bands).toBe(1);
  });

  it("leaves a gap for a value that was not finite, and notes so", () => {
    const chart = qualityOverRounds(run(4, [1], (round) => ({ loss: round === 2 ? null : 3 - round / 4 })));
    expect(parse(chart.svg).lines[0]?.match(/M/g)).toHaveLength(2);
    expect(chart.notes.at(-1)).toMatch(/\b1 value\b.*not finite/);
  });

  it.each([
    ["nothing finite", () => ({})],
    ["a loss of 0", () => ({ loss: 0 })],
    ["a perplexity of 1e300", (round: number) => ({ perplexity: 10 ** (300 - 100 * round) })],
    ["an accuracy of 1", () => ({ accuracy: 1 })],
    ["an accuracy of 0", () => ({ accuracy: 0 })],
  ])("draws numbers only with %s", (_, metrics) => {
    for (const last of [0, 1, 2]) {
      const data = run(last, [8], metrics);
      expect(qualityOverRounds(data).svg + qualityOverRank(data).svg).not.toMatch(/NaN|Infinity|undefined/);
    }
  });
});

describe("quality over rank", () => {
  it("fits the trained rounds, with intervals after the last, and notes the value of a start far below", () => {
    const chart = qualityOverRank(run(6, TIERS, (round, r) => withInterval(round === 0 ? 0.04 : 0.7 + r / 100)));
    const { yTicks, lines, bars, label } = parse(chart.svg);
    expect(Math.min(...yTicks)).toBeGreaterThanOrEqual(60);
    expect(lines).toHaveLength(4);
    expect(bars).toBe(3);
    expect(label).toMatch(/^Line chart: accuracy over the rank/);
    expect(chart.notes).toContainEqual(expect.stringMatching(/^Before training: 4\.0 %, outside/));
    expect(chart.notes[0]).toMatch(/95 % .*intervals .*round 6\b.* 256 /);
    expect(chart.legend.map(({ name }) => name)).toEqual(["round 6", "round 4", "round 3", "round 1"]);
  });

  it("draws a start that is near as a dashed line", () => {
    const chart = qualityOverRank(run(1, TIERS, (round, r) => ({ loss: 3 - round / 10 + r / 10 })));
    expect(chart.legend).toMatchObject([
      { name: "round 1", isDashed: false },
      { name: "before training", isDashed: true },
    ]);
  });

  it("labels no more ranks than fit its width", () => {
    const tiers = Array.from({ length: 30 }, (_, index) => index + 1);
    const { labels, xTicks } = parse(qualityOverRank(run(1, tiers, () => ({ accuracy: 0.5 }))).svg);
    expect(xTicks).toHaveLength(12);
    expect(labels.filter(({ name }) => name === "50.0").length).toBeLessThanOrEqual(9);
  });
});
