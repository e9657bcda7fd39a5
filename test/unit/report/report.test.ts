import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseHTML } from "linkedom";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { writeReport } from "../../../src/report/html.ts";
import { readRun } from "../../../src/records/read-run.ts";
import { renderPage } from "../../../src/report/page.ts";
import { summarise } from "../../../src/report/summary.ts";
import { qualityTable, reportTables, roundsTable, segmentsTable, timeTable, trafficTable } from "../../../src/report/tables.ts";
import { clientsTable } from "../../../src/report/clients-table.ts";
import { renderTextTable } from "../../../src/report/text-table.ts";
import { tierMetrics } from "../../support/tier-metrics.ts";
import { writeRunFixture } from "../../support/trained-run.ts";

const TIERS = [1, 2, 4, 8, 16];

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "prelort-report-"));
});
afterEach(() => rm(directory, { recursive: true }));

describe("a run without metrics for some rounds", () => {
  it("says so, and shows no other round as the one before training", async () => {
    await writeRunFixture(directory);
    const run = await readRun(directory);
    const gaps = { ...run, rounds: run.rounds.filter(({ round }) => round !== 0 && round !== 2) };
    expect(summarise(run)).toMatch(/ before training[^]*\.$/);
    expect(summarise(gaps)).not.toContain("before training");
    expect(summarise(gaps)).toMatch(/metrics\.jsonl .*\b0, 2\b.*prelort resume/);
    const [before] = qualityTable(TIERS, gaps.rounds).rows.map((row) => row[1]);
    expect(before).toBe(qualityTable(TIERS, []).rows[0]?.[1]);
  });
});

it("metrics are read by their round, whatever the order of their lines", async () => {
  await writeRunFixture(directory);
  const { rounds } = await readRun(directory);
  const file = join(directory, "metrics.jsonl");
  const lines = (await readFile(file, "utf8")).trimEnd().split("\n");
  await writeFile(file, [...lines.toReversed(), lines[3]].map((line) => `${line}\n`).join(""));
  expect((await readRun(directory)).rounds).toEqual(rounds);
});

describe("readRun", () => {
  it("reads rounds as the server wrote them", async () => {
    await writeRunFixture(directory);
    const { rounds, record } = await readRun(directory);
    expect(rounds).toHaveLength(9);
    expect(rounds[3]).toMatchObject({ round: 3, failed: ["c05"], passes: 54 });
    expect(rounds[3]?.byTier.map(({ r }) => r)).toEqual(record.layout.tiers);
  });

  it("ignores a last line that was never finished", async () => {
    await writeRunFixture(directory, { rounds: 2 });
    await appendFile(join(directory, "metrics.jsonl"), '{"round": 3, "by_t');
    expect((await readRun(directory)).rounds).toHaveLength(3);
  });

  it.each([
    ["metrics.jsonl", '{"round": 0}\n', /metrics\.jsonl:1 .*\bby_tier\b.*\blist\b/],
    ["metrics.jsonl", "round 0\n", /metrics\.jsonl:1 .*not JSON.*prelort resume/],
    [
      "timings.jsonl",
      '{"round":0,"phase":"fit","seconds":1}\n{"round":0,"phase":"fit","seconds":-1}\n',
      /timings\.jsonl:2 .*\bseconds\b.*\b0, got -1/,
    ],
    ["run.json", "{}", /run\.json .*\bname\b.*string.*\d more/],
    ["run.json", '{"config": {}}', /data and model.*prelort resume/],
    ["run.json", '{"config": ', /run\.json .*not a JSON object/],
  ])("names the damaged line of %s", async (name, text, expected) => {
    await writeRunFixture(directory);
    await writeFile(join(directory, name), text);
    await expect(readRun(directory)).rejects.toThrow(expected);
  });

  it("names the file that a directory without a run lacks", async () => {
    await expect(readRun(directory)).rejects.toThrow(/no run\.json/);
  });
});

describe("tables", () => {
  it("show quality at each tier before training and after the last evaluated round", async () => {
    await writeRunFixture(directory);
    const { columns, rows } = qualityTable(TIERS, (await readRun(directory)).rounds);
    expect(columns.slice(0, 4)).toEqual(["rank", "accuracy before", "after round 8", "change"]);
    expect(columns.slice(4)).toEqual(["loss before", "loss after", "macro-F1 before", "macro-F1 after", "ECE before", "ECE after"]);
    expect(rows.map(([rank]) => rank)).toEqual(["1", "2", "4", "8", "16", "worst tier", "area, log₂ rank"]);
    expect(rows[0]?.slice(1, 4)).toEqual(["3.9 %", "52.3 %", "+48.4 points"]);
    const after = rows.slice(0, 5).map((row) => Number.parseFloat(row[2] ?? ""));
    expect(rows[5]?.[2]).toBe(`${Math.min(...after).toFixed(1)} %`);
    const [one = 0, two = 0, four = 0, eight = 0, sixteen = 0] = after;
    expect(Number.parseFloat(rows[6]?.[2] ?? "")).toBeCloseTo(((one + sixteen) / 2 + two + four + eight) / 4, 0);
  });

  it("show perplexity and its relative change if the task has no accuracy", async () => {
    await writeRunFixture(directory, { task: "causal-lm", rounds: 3 });
    const { columns, rows } = qualityTable(TIERS, (await readRun(directory)).rounds);
    expect(columns[1]).toBe("perplexity before");
    expect(rows[4]?.slice(1, 4)).toEqual(["27.11", "7.74", "−71.4 %"]);
  });

  it("show the most confused labels of the largest tier, and draw its matrix beside the smallest tier's", async () => {
    await writeRunFixture(directory);
    const run = await readRun(directory);
    const [worst, right] = [
      [0, 2, 30],
      [2, 2, 10],
    ] as const;
    const confusion = [
      { r: 1, cells: [[0, 0, 40]] as const },
      { r: 16, cells: [[0, 0, 10], worst, [1, 0, 5], right] as const },
    ];
    const labels = ["animal", "food & <drink>", "tool"];
    const rounds = run.rounds.map((round) => (round.round === 8 ? { ...round, confusion } : round));
    const confused = { ...run, rounds, record: { ...run.record, labels } };
    const table = reportTables(confused).find(({ title }) => title.startsWith("Most confused"));
    expect(table).toMatchObject({
      title: "Most confused labels at rank 16, after round 8",
      rows: [
        ["animal", "tool", "30", "75.0 %"],
        ["food & <drink>", "animal", "5", "100.0 %"],
      ],
    });
    const page = renderPage(confused);
    expect(page.indexOf("What is taken for what at rank 16")).toBeLessThan(page.indexOf("What is taken for what at rank 1<"));
    expect(page).toContain("animal taken for tool: 30 examples, 75.0 %");
    expect(page).not.toContain("<drink>");
    expect(renderPage(run)).not.toContain("taken for");
  });

  it("leave out a matrix of too many labels to read, and keep its most confused pairs", async () => {
    await writeRunFixture(directory);
    const run = await readRun(directory);
    const cells = Array.from({ length: 50 }, (_, label) => [label, (label + 1) % 50, 1] as const);
    const rounds = run.rounds.map((round) => ({ ...round, confusion: [{ r: 16, cells }] }));
    expect(renderPage({ ...run, rounds })).not.toContain("What is taken for what");
    expect(reportTables({ ...run, rounds }).find(({ title }) => title.startsWith("Most confused"))?.rows).toHaveLength(10);
  });

  it("show ROUGE-L before and after if answers were generated", async () => {
    await writeRunFixture(directory, { task: "causal-lm", rounds: 2 });
    const { rounds } = await readRun(directory);
    const rougeL = [0.101, null, 0.152];
    const generated = rounds.map((round, index) => ({
      ...round,
      byTier: round.byTier.map((tier) => ({ ...tier, rougeL: rougeL[index] ?? null })),
    }));
    const { columns, rows } = qualityTable(TIERS, generated);
    expect(columns.slice(6)).toEqual(["ROUGE-L before", "ROUGE-L after"]);
    expect(rows[0]?.slice(6)).toEqual(["10.1 %", "15.2 %"]);
  });

  it("have a row for the merged model if a method merges", async () => {
    await writeRunFixture(directory);
    const { rounds } = await readRun(directory);
    const merging = rounds.map((round) => ({ ...round, merged: round.byTier[4] ?? null }));
    const { rows } = qualityTable(TIERS, merging);
    expect(rows.at(-1)).toEqual(["merged model", ...rows[4]!.slice(1)]);
  });

  it("have a dash for a value that was not evaluated or not finite", () => {
    const tier = tierMetrics(2, {});
    const round = {
      round: 0,
      byTier: [tier],
      merged: null,
      byClient: [],
      energy: [],
      fitLoss: null,
      reported: [],
      failed: [],
      late: [],
      coverage: [],
      passes: 0,
      bytesDown: 0,
      bytesUp: 0,
    };
    expect(roundsTable([2], [round, { ...round, round: 1, byTier: [], fitLoss: 1.25, reported: ["c0"] }]).rows).toEqual([
      ["0", "—", "—", "—", "—"],
      ["1", "—", "1.250", "1", "0"],
    ]);
  });

  it("total what the rounds recorded for each client, segment and direction", async () => {
    await writeRunFixture(directory);
    const run = await readRun(directory);
    expect(clientsTable(run).rows[5]).toEqual(["c05", "185", "2", "4 of 4", "7", "1"]);
    expect(segmentsTable(run).rows.map((row) => row.slice(0, 4))).toEqual([
      ["1", "1", "8 of 8", "9.9"],
      ["2", "2", "8 of 8", "7.9"],
      ["3–4", "4", "8 of 8", "5.0"],
      ["5–8", "8", "8 of 8", "3.0"],
      ["9–16", "16", "8 of 8", "1.0"],
    ]);
    // Ranks sum to 48; c05 of rank 2 missed one of eight rounds; 4 · 9216 bytes per unit of rank.
    const bytes = 4 * 9216 * (8 * 48 - 2);
    expect(trafficTable(run).rows[0]?.[1]).toBe(`${(bytes / 2 ** 20).toFixed(1)} MiB`);
    expect(timeTable(run).rows.map(([phase]) => phase)).toEqual(["start workers", "evaluate", "fit", "commit"]);
  });

  it("are as wide as their columns in text, with numbers aligned to the right", () => {
    const text = renderTextTable({
      title: "T",
      columns: ["who", "n"],
      rows: [
        ["a", "1"],
        ["b", "100"],
      ],
    });
    expect(text).toBe(["T", "─────────", " who    n", "─────────", " a      1", " b    100", "─────────"].join("\n"));
  });
});

describe("summarise", () => {
  it("says at which ranks the change may be chance", async () => {
    await writeRunFixture(directory, { rounds: 2 });
    const run = await readRun(directory);
    expect(summarise(run)).not.toMatch(/chance/);
    const [first, ...others] = run.rounds;
    const raised = first!.byTier.map((tier) => {
      const accuracy = others.at(-1)!.byTier.find(({ r }) => r === tier.r)!.accuracy! - (tier.r > 2 ? 0.02 : 0.2);
      return { ...tier, accuracy, intervals: [{ name: "accuracy", low: accuracy - 0.03, high: accuracy + 0.03 }] };
    });
    expect(summarise({ ...run, rounds: [{ ...first!, byTier: raised }, ...others] })).toMatch(/At rank 4, 8, 16 the change .* by chance\./);
  });

  it("compares the whole adapter, its smallest prefix, the start and the baseline", async () => {
    await writeRunFixture(directory);
    const summary = summarise(await readRun(directory));
    for (const facts of [
      /8 rounds over 10 clients.*rank-16 adapter.*accuracy of 67\.6 % \(95 % interval 64\.6 % to 71\.6 %\) on 256 held-out/,
      /3\.9 % before training/,
      /rank-1 prefix.* 52\.3 %/,
      /label.* 34\.2 %/,
    ]) {
      expect(summary).toMatch(facts);
    }
  });

  it("says so if nothing was trained or evaluated", async () => {
    await writeRunFixture(directory, { rounds: 0 });
    const run = await readRun(directory);
    expect(summarise(run)).toMatch(/^Before training, .*accuracy .* 3\.9 % on 256 held-out examples\.$/);
    expect(summarise({ ...run, rounds: [] })).toMatch(/^Nothing .*evaluated/);
  });
});

describe("report.html", () => {
  async function report() {
    const text = await readFile(await writeReport(directory), "utf8");
    return { text, document: parseHTML(text).document };
  }

  it("contains both charts with a line for every tier, and every table", async () => {
    await writeRunFixture(directory);
    const { document } = await report();
    const [overRounds, overRank] = document.querySelectorAll("figure svg");
    expect(overRounds?.querySelectorAll("g[aria-label=line] path")).toHaveLength(5);
    expect(overRounds?.querySelectorAll("g[aria-label=dot] circle")).toHaveLength(5 * 9);
    expect(overRank?.querySelectorAll("g[aria-label=line] path")).toHaveLength(4);
    expect(overRank?.querySelector("g[aria-label=rule]")).not.toBeNull();
    expect(document.querySelectorAll("table")).toHaveLength(reportTables(await readRun(directory)).length);
  });

  it("contains no NaN, whatever is missing", async () => {
    for (const options of [{ task: "causal-lm" }, { rounds: 0 }, { rounds: 1 }] as const) {
      await writeRunFixture(directory, options);
      expect((await report()).text).not.toMatch(/NaN|Infinity|undefined/);
    }
  });

  it("has no charts if no round was committed", async () => {
    await writeRunFixture(directory);
    await writeFile(join(directory, "metrics.jsonl"), "");
    const { document } = await report();
    expect(document.querySelectorAll("figure")).toHaveLength(0);
    expect(document.querySelector(".lede")?.textContent).toMatch(/^Nothing .*evaluated/);
  });

  it("loads no other file and runs no script", async () => {
    await writeRunFixture(directory);
    const { document, text } = await report();
    expect(document.querySelectorAll("script, link, img, iframe, [src], [href]")).toHaveLength(0);
    expect(text.replaceAll("http://www.w3.org/", "")).not.toMatch(/https?:|@import|url\(/);
  });

  it("escapes every text", async () => {
    const name = "<script>alert('x')</script> & \"co\"";
    await writeRunFixture(directory, { name });
    const { document } = await report();
    expect(document.querySelectorAll("script")).toHaveLength(0);
    expect(document.querySelector("h1")?.textContent).toBe(name);
  });

  it("escapes hostile labels and client ids, also in the pictures", async () => {
    await writeRunFixture(directory);
    const file = join(directory, "run.json");
    const record = JSON.parse(await readFile(file, "utf8")) as { clients: { id: string; mix: object[] }[]; labels: string[] };
    const hostile = ["</text></svg><script>alert(1)</script>", `"onload='alert(2)'`, "noun\u202egro.live", "\u001b[31mred\u0000"];
    record.labels = hostile;
    for (const [index, client] of record.clients.slice(0, 4).entries()) {
      const value = hostile[index] ?? "";
      client.id = value;
      client.mix = [{ value, n: 5 }];
    }
    await writeFile(file, JSON.stringify(record));
    const { text, document } = await report();
    expect(document.querySelectorAll("script, [onload]")).toHaveLength(0);
    // oxlint-disable-next-line no-control-regex
    expect(text).not.toMatch(/[\u0000\u001b\u202e]/);
    expect([...document.querySelectorAll(".partition circle title")].map(({ textContent }) => textContent)).toContain(
      "noun\\u202egro.live, noun\\u202egro.live: 5 examples",
    );
    expect([...document.querySelectorAll("tbody th")].map(({ textContent }) => textContent)).toEqual(
      expect.arrayContaining([hostile[0], hostile[1]]),
    );
  });

  it("contains the config as YAML that parses to the same config", async () => {
    await writeRunFixture(directory);
    const { document } = await report();
    expect(parse(document.querySelector("pre")?.textContent ?? "")).toEqual((await readRun(directory)).record.config);
  });

  it("is the same bytes for the same run", async () => {
    await writeRunFixture(directory);
    expect((await report()).text).toBe((await report()).text);
  });
});
