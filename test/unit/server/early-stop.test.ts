import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { exportRun, federate, loadRun, type RunEvent, verifyRun, writeReport } from "../../../src/index.ts";
import { echo, tinyLauncher, tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";
import { argumentIssue, issue, issuesOf } from "../../support/config-issues.ts";

let runsDir: string;
beforeEach(() => {
  runsDir = mkdtempSync(path.join(tmpdir(), "prelort-early-"));
});
afterEach(() => rmSync(runsDir, { recursive: true }));

const BEST = 3;
/** After round 3 nobody learns any more, so that later rounds are as good, but not better. */
const launcher = () => tinyLauncher({ fit: (fit) => (fit.round > BEST ? echo(fit) : fit.train()) });
const STOPPING = { rounds: 9, evaluate: { best: { metric: "loss" } }, stopWhen: { patience: 2 } } as const;

const start = (name: string, more: Omit<TinyRunOptions, "runsDir"> = STOPPING) =>
  federate(tinyRun({ runsDir, name, seed: 7, launcher: launcher(), ...more }));
const at = (...parts: string[]) => path.join(runsDir, ...parts);
const kept = (name: string) =>
  readdirSync(at(name, "rounds"))
    .map(Number)
    .toSorted((a, b) => a - b);
const lastEntry = (name: string) =>
  JSON.parse(readFileSync(at(name, "journal.jsonl"), "utf8").trimEnd().split("\n").at(-1) ?? "") as unknown;

async function collect(run: AsyncIterable<RunEvent>): Promise<readonly RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  return events;
}

/** What must be the same bytes. */
const bytesOf = (name: string) =>
  Object.fromEntries(
    [...kept(name).map((round) => `rounds/${round}/global.safetensors`), "metrics.jsonl", "adapters/r4/adapter_model.safetensors"]
      .concat(existsSync(at(name, "adapters/best")) ? ["adapters/best/r4/adapter_model.safetensors"] : [])
      .map((file) => [
        file,
        createHash("sha256")
          .update(readFileSync(at(name, file)))
          .digest("hex"),
      ]),
  );

/** Stops a run at the first event for which `isEnd` holds; it may be resumed afterwards. */
async function interrupt(name: string, isEnd: (event: RunEvent) => boolean, more?: Omit<TinyRunOptions, "runsDir">): Promise<void> {
  const run = start(name, more);
  for await (const event of run) {
    if (!isEnd(event)) continue;
    await run.stop();
    break;
  }
  await run.result.catch(() => {});
}

test("a run stops once its metric improves no more, and says so in its result, events, record and report", async () => {
  const run = start("a");
  const events = await collect(run);
  const { best, stopped, metrics, sha256, directory } = await run.result;
  expect(best).toEqual({ round: BEST, value: expect.any(Number), metric: "loss", at: "area" });
  expect(stopped).toEqual({ round: BEST + 2, reason: "patience" });
  expect(metrics.map(({ round }) => round)).toEqual([0, 1, 2, 3, 4, 5]);

  const ends = events.filter(({ type }) => type === "round-end").map((event) => ("best" in event ? event.best?.round : undefined));
  expect(ends).toEqual([undefined, 1, 2, 3, 3, 3]);
  expect(events.filter(({ type }) => type === "early-stop")).toMatchObject([{ round: 5, reason: "patience", best }]);
  const folders = (...parts: string[]) => [1, 2, 4, 8].map((r) => path.join(directory, "adapters", ...parts, `r${r}`));
  expect(events.at(-1)).toMatchObject({
    type: "run-end",
    sha256,
    stopped,
    adapters: folders(),
    best: { ...best, adapters: folders("best") },
  });
  const timings = readFileSync(at("a/timings.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { round: number; phase: string });
  const roundOf = (round: number) =>
    ["select", "fit", "aggregate", "evaluate", "commit"].map((phase) => [phase === "evaluate" ? round - 1 : round, phase]);
  const inOrder = timings.map(({ round, phase }) => [round, phase]);
  expect(inOrder.slice(0, 14)).toEqual([
    ...["start workers", "prepare data", "load model", "commit"].map((phase) => [0, phase]),
    ...roundOf(1),
    ...roundOf(2),
  ]);
  expect(inOrder.at(-1)).toEqual([5, "save"]);
  expect(timings.filter(({ phase }) => phase === "evaluate").map(({ round }) => round)).toEqual([0, 1, 2, 3, 4, 5]);
  // Up to round 4, no evaluation can end the run, so the next round begins beside it.
  const begins = events.flatMap((event) =>
    event.type === "round-start" || event.type === "evaluation-start" ? [`${event.type} ${event.round}`] : [],
  );
  for (const round of [0, 1, 2, 3, 4])
    expect(begins.indexOf(`round-start ${round + 1}`)).toBeLessThan(begins.indexOf(`evaluation-start ${round}`));
  // No client trained for a round that is not part of the run.
  expect(events.filter(({ type }) => type === "round-start")).toHaveLength(5);

  expect(lastEntry("a")).toEqual({ type: "end", best, stopped });
  expect(await loadRun(directory)).toMatchObject({ state: "ended", best, stopped });
  const report = readFileSync(await writeReport(directory), "utf8");
  expect(report).toMatch(
    /stopped early after round 5 of 9, since [^<]*<[^]*<dt>best<\/dt>\s*<dd>round 3 \(loss [\d.]+, area over the ranks\)/,
  );
  expect((await verifyRun(directory)).flatMap(({ problems }) => problems)).toEqual([]);
});

test("the rounds of a run that stopped are those of a run that trained on, byte for byte", async () => {
  await start("stopped").result;
  await start("whole", { rounds: 9 }).result;
  const [stopped, whole] = [bytesOf("stopped"), bytesOf("whole")];
  for (const round of kept("stopped")) {
    const file = `rounds/${round}/global.safetensors`;
    expect(stopped[file]).toBe(whole[file]);
  }
  const [few, all] = ["stopped", "whole"].map((name) => readFileSync(at(name, "metrics.jsonl"), "utf8"));
  expect(all?.startsWith(few ?? "?")).toBe(true);
});

test("a target ends the run in the first round that reaches it", async () => {
  const { metrics } = await start("all", { rounds: 3, evaluate: { best: { metric: "accuracy", at: 4 } } }).result;
  const target = metrics[2]?.byTier.find(({ r }) => r === 4)?.accuracy ?? NaN;
  expect(metrics[1]?.byTier.find(({ r }) => r === 4)?.accuracy).toBeLessThan(target);
  const { stopped, best } = await start("a", { rounds: 3, evaluate: { best: { metric: "accuracy", at: 4 } }, stopWhen: { target } }).result;
  expect([stopped, best]).toMatchObject([
    { round: 2, reason: "target" },
    { round: 2, value: target },
  ]);
});

test("the adapters of the best round are saved beside those of the last, and are that round's bytes", async () => {
  const { directory, sha256 } = await start("a").result;
  const weights = (folder: string) => readFileSync(path.join(folder, "adapter_model.safetensors"));
  for (const r of [1, 2, 4, 8]) {
    const [best, third, last] = await Promise.all(
      [["best"] as const, [BEST] as const, [undefined] as const].map(async ([round], index) => {
        const saved = await exportRun(directory, { r, round, out: at(`out-${r}-${index}`) });
        return { ...saved, bytes: weights(saved.directory) };
      }),
    );
    expect([best?.round, last?.round]).toEqual([BEST, BEST + 2]);
    expect(weights(path.join(directory, "adapters/best", `r${r}`))).toEqual(third?.bytes);
    expect(best?.bytes).toEqual(third?.bytes);
    expect(weights(path.join(directory, "adapters", `r${r}`))).toEqual(last?.bytes);
  }
  const last = readFileSync(path.join(directory, "rounds/5/global.safetensors"));
  expect(createHash("sha256").update(last).digest("hex")).toBe(sha256);
});

test("a best round can be asked for only of a run that marks one", async () => {
  const { directory } = await start("a", { rounds: 1 }).result;
  expect(await issuesOf(() => exportRun(directory, { round: "best", out: at("out") }))).toEqual([
    argumentIssue("round", [directory, "evaluate.best"]),
  ]);
});

describe("a resumed run stops in the same round with the same bytes:", () => {
  test.each<[string, (event: RunEvent) => boolean, Omit<TinyRunOptions, "runsDir">?]>([
    ["interrupted while an earlier round trains", (event) => event.type === "client-fit" && event.round === 3],
    ["interrupted while the last round is evaluated", (event) => event.type === "evaluation-start" && event.round === 5],
    ["interrupted once the last round is evaluated", (event) => event.type === "round-end" && event.round === 5],
    ["interrupted once it is to stop", ({ type }) => type === "early-stop"],
    ["interrupted with only the best round kept", (event) => event.type === "client-fit" && event.round === 5, { keepRounds: "best" }],
    ["interrupted with only the last round kept", (event) => event.type === "client-fit" && event.round === 5, { keepRounds: 1 }],
  ])("%s", async (_, isEnd, keep = {}) => {
    const options = { ...STOPPING, ...keep };
    const whole = await start("whole", options).result;
    await interrupt("a", isEnd, options);
    const resumed = await start("a", { ...options, resume: true }).result;
    expect(resumed).toMatchObject({ sha256: whole.sha256, best: whole.best, stopped: whole.stopped });
    expect(bytesOf("a")).toEqual(bytesOf("whole"));
    expect(lastEntry("a")).toEqual(lastEntry("whole"));
  });
});

describe("a run that stopped early does not train on", () => {
  test("when it is resumed", async () => {
    const { sha256, best, stopped } = await start("a").result;
    rmSync(at("a/adapters"), { recursive: true });
    const run = start("a", { ...STOPPING, resume: true });
    const events = await collect(run);
    expect(await run.result).toMatchObject({ sha256, best, stopped });
    expect(events.map(({ type }) => type)).toEqual(["run-start", "run-end"]);
    expect(events[0]).toMatchObject({ resumed: { after: 5, stopped } });
    expect(existsSync(at("a/adapters/best/r4/adapter_model.safetensors"))).toBe(true);
  });

  test("when it is resumed without its metrics, which are computed again as far as its rounds were kept", async () => {
    const options = { ...STOPPING, keepRounds: "best" } as const;
    const { sha256, stopped } = await start("a", options).result;
    writeFileSync(at("a/metrics.jsonl"), "");
    const run = start("a", { ...options, resume: true });
    const events = await collect(run);
    expect(await run.result).toMatchObject({ sha256, stopped, best: { round: BEST } });
    expect(events.filter(({ type }) => type === "round-start")).toEqual([]);
    expect((await run.result).metrics.map(({ round }) => round)).toEqual([BEST, BEST + 2]);
    expect((await start("a", { ...options, resume: true }).result).stopped).toEqual(stopped);
  });

  test("when its journal lost a round: the resume is refused", async () => {
    await start("a").result;
    const lines = readFileSync(at("a/journal.jsonl"), "utf8").trimEnd().split("\n");
    const without = lines.filter((line) => !/"type":"commit","round":5\b/.test(line));
    writeFileSync(at("a/journal.jsonl"), without.map((line) => `${line}\n`).join(""));
    await expect(start("a", { ...STOPPING, resume: true }).result).rejects.toMatchObject({ kind: "run" });
  });
});

describe("keep_rounds", () => {
  const best = { rounds: 4, evaluate: { best: { metric: "loss" } } } as const;
  test.each<[string, Omit<TinyRunOptions, "runsDir">, readonly number[]]>([
    ["all", { ...STOPPING, keepRounds: "all" }, [0, 1, 2, 3, 4, 5]],
    ["the best and the last", { ...STOPPING, keepRounds: "best" }, [3, 5]],
    ["the best, which is the last", { ...STOPPING, rounds: 2, keepRounds: "best" }, [2]],
    ["the last two, and the best", { ...STOPPING, keepRounds: 2 }, [3, 4, 5]],
    ["the last two", { rounds: 5, keepRounds: 2 }, [4, 5]],
    ["more than there are", { ...best, keepRounds: 9 }, [0, 1, 2, 3, 4]],
  ])("keeps %s, and the run is verified, with the same adapters as if all were kept", async (_, options, expected) => {
    const { directory, sha256 } = await start("a", options).result;
    expect(kept("a")).toEqual(expected);
    const verified = await verifyRun(directory);
    expect(verified.filter(({ isKept }) => isKept).map(({ round }) => round)).toEqual(expected);
    expect(verified.flatMap(({ problems }) => problems)).toEqual([]);
    expect(verified.every(({ isKept, isAdapterVerified }) => isKept === isAdapterVerified)).toBe(true);
    const all = await start("whole", { ...options, keepRounds: "all" }).result;
    expect(all.sha256).toBe(sha256);
    expect(readFileSync(at("a/metrics.jsonl"))).toEqual(readFileSync(at("whole/metrics.jsonl")));
  });

  test("names the rounds that it kept if another is asked for", async () => {
    const { directory } = await start("a", { ...STOPPING, keepRounds: "best" }).result;
    expect(await issuesOf(() => exportRun(directory, { round: 2, out: at("out") }))).toEqual([
      argumentIssue("round", [directory, "keep_rounds", "3, 5", 2]),
    ]);
    expect((await exportRun(directory, { round: "best", out: at("out") })).round).toBe(3);
  });

  test("may change when a run is resumed, and updates recorded before are no reason to miss what was removed", async () => {
    const whole = await start("whole", { rounds: 4 }).result;
    await interrupt("a", (event) => event.type === "round-start" && event.round === 4, { rounds: 4, recordUpdates: true });
    expect(kept("a")).toEqual([0, 1, 2, 3]);
    const { sha256, directory } = await start("a", { rounds: 4, keepRounds: 2, resume: true }).result;
    expect([sha256, kept("a")]).toEqual([whole.sha256, [3, 4]]);
    const verified = await verifyRun(directory);
    expect(verified.map(({ isKept, updates, problems }) => [isKept, updates, problems])).toEqual([
      [false, null, []],
      [false, null, []],
      [false, null, []],
      [true, null, []],
      [true, null, []],
    ]);
  });

  test("finishes a removal that a kill had interrupted, and takes what is left of it for no damage", async () => {
    await interrupt("a", (event) => event.type === "client-fit" && event.round === 5, { ...STOPPING, keepRounds: 1 });
    expect(kept("a")).toEqual([3, 4]);
    mkdirSync(at("a/rounds/2"));
    writeFileSync(at("a/rounds/2/global.safetensors"), "half");
    const whole = await start("whole").result;
    const resumed = await start("a", { ...STOPPING, keepRounds: 1, resume: true }).result;
    expect(resumed.sha256).toBe(whole.sha256);
    expect(kept("a")).toEqual([3, 5]);
  });

  test("lets a run whose last round is damaged continue from the last that was kept", async () => {
    const options = { ...STOPPING, stopWhen: { patience: 4 }, keepRounds: "best" } as const;
    const whole = await start("whole", options).result;
    await interrupt("a", (event) => event.type === "round-start" && event.round === 7, options);
    expect(kept("a")).toEqual([3, 6]);
    appendFileSync(at("a/rounds/6/global.safetensors"), "damage");
    const run = start("a", { ...options, resume: true });
    const begun = (await collect(run)).find((event) => event.type === "run-start");
    // Round 6 alone is damaged: those that were removed are no news.
    expect(begun?.resumed).toMatchObject({ after: 3, remarks: [expect.stringContaining("rounds/6/global.safetensors")] });
    const resumed = await run.result;
    expect(resumed).toMatchObject({ sha256: whole.sha256, stopped: whole.stopped });
    expect(bytesOf("a")).toEqual(bytesOf("whole"));
    expect((await verifyRun(at("a"))).flatMap(({ problems }) => problems)).toEqual([]);
  });

  test("a round that should be there and is missing is reported", async () => {
    const { directory } = await start("a", { ...STOPPING, keepRounds: "best" }).result;
    rmSync(at("a/rounds/3"), { recursive: true });
    expect((await verifyRun(directory)).flatMap(({ problems }) => problems)).toEqual([
      expect.stringContaining("rounds/3/global.safetensors"),
    ]);
  });
});

test("a metric that a task of one's own turns out not to have ends the run with its name and those that there are", async () => {
  const evaluate = { best: { metric: "bleu", mode: "max" } } as const;
  expect(await issuesOf(() => start("a", { rounds: 3, evaluate }).result)).toEqual([
    issue("evaluate.best.metric", ["loss, accuracy, macro_f1", '"bleu"']),
  ]);
});
