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

/** A run of rounds 0 to `last` with these values. */
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

describe("quality over rounds", () => {
  it("fits its y axis to lines between 70 % and 78 % and their interval, and starts at round 0", () => {
    const chart = qualityOverRounds(run(8, TIERS, (round) => ({ accuracy: 0.7 + 0.01 * round })));
    const { lines, bands, xTicks, yTicks } = parse(chart.svg);
    expect(lines).toHaveLength(3);
    expect(xTicks).toEqual(["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    // Wilson: 0.7 of 256 from 64.1 %, 0.78 of 256 to 82.6 %.
    expect(Math.min(...yTicks)).toBeGreaterThanOrEqual(60);
    expect(Math.max(...yTicks)).toBeLessThanOrEqual(85);
    expect(bands).toBe(1);
    expect(chart.notes[0]).toMatch(/^Band: 95 % interval \(Wilson\) of rank 4, as 256 held-out examples allow\./);
  });

  it("says where the majority lies when it is too far away to be drawn, and draws it where it is near", () => {
    const far = qualityOverRounds(run(2, TIERS, () => ({ accuracy: 0.9 })));
    expect(far.notes.join(" ")).toContain("Majority: always answering the commonest label, 34.2 %, outside this axis.");
    expect(parse(far.svg).labels.map(({ name }) => name)).not.toContain("majority");
    const near = qualityOverRounds(run(2, TIERS, (round) => ({ accuracy: 0.2 + 0.2 * round })));
    expect(parse(near.svg).labels.map(({ name }) => name)).toContain("majority");
  });

  it("names every line where it ends, without one name over another", () => {
    const { labels } = parse(qualityOverRounds(run(3, TIERS, (_, r) => ({ loss: 2 + r / 1000 }))).svg);
    expect(labels.map(({ name }) => name)).toEqual(["r=1", "r=2", "r=4"]);
    const heights = labels.map(({ y }) => y).toSorted((a, b) => a - b);
    for (const [index, y] of heights.slice(1).entries()) expect(y - (heights[index] ?? 0)).toBeGreaterThanOrEqual(12.9);
  });

  it("of a loss draws no interval, and says why", () => {
    const chart = qualityOverRounds(run(3, TIERS, () => ({ loss: 2 })));
    expect(parse(chart.svg).bands).toBe(0);
    expect(chart.notes).toEqual(["No interval is drawn: that of a mean loss needs the spread over the examples, which is not recorded."]);
  });

  it("leaves a gap where a value was not finite, and tells of it", () => {
    const chart = qualityOverRounds(run(4, [1], (round) => ({ loss: round === 2 ? null : 3 - round / 4 })));
    expect(parse(chart.svg).lines[0]?.match(/M/g)).toHaveLength(2);
    expect(chart.notes.at(-1)).toBe("Not drawn: 1 value that was not finite.");
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
  it("fits trained rounds, with intervals after the last, and tells of a start far below in words", () => {
    const chart = qualityOverRank(run(6, TIERS, (round, r) => ({ accuracy: round === 0 ? 0.04 : 0.7 + r / 100 })));
    const { yTicks, lines, bars, label } = parse(chart.svg);
    expect(Math.min(...yTicks)).toBeGreaterThanOrEqual(60);
    expect(lines).toHaveLength(4);
    expect(bars).toBe(3);
    expect(label).toBe("Line chart: accuracy over the rank of the adapter's prefix, a line for each of a few rounds.");
    expect(chart.notes).toContain("Before training: 4.0 %, outside this axis.");
    expect(chart.legend.map(({ name }) => name)).toEqual(["round 6", "round 4", "round 3", "round 1"]);
  });

  it("draws the start where it lies near, dashed", () => {
    const chart = qualityOverRank(run(1, TIERS, (round, r) => ({ loss: 3 - round / 10 + r / 10 })));
    expect(chart.legend).toMatchObject([
      { name: "round 1", isDashed: false },
      { name: "before training", isDashed: true },
    ]);
  });

  it("labels no more ranks than its width holds", () => {
    const tiers = Array.from({ length: 30 }, (_, index) => index + 1);
    const { labels, xTicks } = parse(qualityOverRank(run(1, tiers, () => ({ accuracy: 0.5 }))).svg);
    expect(xTicks).toHaveLength(12);
    expect(labels.filter(({ name }) => name === "50.0").length).toBeLessThanOrEqual(9);
  });
});
