import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { snakeKeys } from "../../src/base/case.ts";
import { loadRun } from "../../src/server/loaded-run.ts";
import { eventually } from "../support/patience.ts";
import { expectOnce, readBack, runTracked, temporaryFolder, trackCliIn, trackersOf } from "../support/tracked-runs.ts";

/* What trackers get besides the figures of rounds: samples with the answers of every tier, and the best round. */

/** Text that a tracker must not take for markup, and nothing at all. */
const SAMPLES = [
  { prompt: "What is a föhn?\n<img src=x> **bold**", reference: "a warm wind", answers: [tell(1, ""), tell(8, "```\n# wind")] },
  { prompt: "And mist?", reference: "", answers: [tell(1, "a"), tell(8, "b")] },
];
const TABLE = [
  ["What is a föhn?\n<img src=x> **bold**", "a warm wind", "", "```\n# wind"],
  ["And mist?", "", "a", "b"],
];
const COLUMNS = ["prompt", "reference", "rank 1", "rank 8"];

function tell(r: number, text: string) {
  return { r, text };
}

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  vi.stubEnv("TRACKIO_DIR", path.join(folder, "trackio"));
  vi.stubEnv("WANDB_MODE", "offline");
  onTestFinished(() => void vi.unstubAllEnvs());
});

const indented = (text: string) => text.replaceAll(/^/gm, "    ");
const trackers = [
  {
    name: "tensorboard",
    words: () => "tensorboard",
    read: () => readBack("tensorboard", path.join(folder, "tiny/tensorboard")),
    round: Math.fround,
    held: {
      "samples/1": [
        `**prompt**\n\n${indented(SAMPLES[0]!.prompt)}\n\n**reference**\n\n    a warm wind\n\n**rank 1**\n\n     \n\n**rank 8**\n\n${indented("```\n# wind")}`,
      ],
      "samples/2": [`**prompt**\n\n    And mist?\n\n**reference**\n\n     \n\n**rank 1**\n\n    a\n\n**rank 8**\n\n    b`],
    },
  },
  {
    name: "mlflow",
    words: () => JSON.stringify({ name: "mlflow", tracking_uri: `sqlite:///${folder}/own.db`, experiment: "tiny" }),
    read: () => readBack("mlflow", `sqlite:///${folder}/own.db`, "tiny"),
    round: (value: number) => value,
    held: { samples: [{ columns: COLUMNS, data: TABLE }] },
  },
  {
    name: "trackio",
    words: () => "trackio",
    read: () => readBack("trackio", "prelort"),
    round: (value: number) => value,
    held: {
      samples: [
        { _type: "trackio.table", _value: TABLE.map((row) => Object.fromEntries(row.map((text, index) => [COLUMNS[index], text]))) },
      ],
    },
  },
  {
    name: "wandb",
    words: () => "wandb",
    read: () => readBack("wandb", path.join(folder, "tiny")),
    round: (value: number) => value,
    held: Object.fromEntries(
      TABLE.flatMap((row, index) =>
        ["prompt", "reference", "tier/1", "tier/8"].map((name, column) => [`samples/${index + 1}/${name}`, [row[column]]]),
      ),
    ),
  },
] as const;

/** A run that stopped early, with samples in the given rounds of its metrics: all of them, repeated up to `rounds`. */
async function runWithSamples(rounds: number, told: (round: number) => boolean): Promise<string> {
  const { directory } = await runTracked({
    runsDir: folder,
    name: "tiny",
    track: [],
    rounds: 9,
    evaluate: { best: { metric: "accuracy", at: 4 } },
    stopWhen: { patience: 1, minDelta: 1 },
  });
  const file = path.join(directory, "metrics.jsonl");
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  const made = Array.from({ length: rounds }, (_, round) => {
    const line = JSON.parse(lines[Math.min(round, lines.length - 1)] ?? "") as object;
    return JSON.stringify({ ...line, round, ...(told(round) && { samples: snakeKeys(SAMPLES) }) });
  });
  writeFileSync(file, `${made.join("\n")}\n`);
  return directory;
}

test.each(trackers)(
  "$name gets each sample as text, the best round and why the run stopped, once",
  async ({ words, read, round, held }) => {
    const directory = await runWithSamples(3, (number) => number !== 1);
    const { best, stopped } = await loadRun(directory);
    expect(stopped).toEqual({ round: 2, reason: "patience" });
    for (let time = 0; time < 2; time++) {
      expect(await trackCliIn(folder, directory, "--with", words())).toMatchObject({ code: 0 });
      const found = await read();
      await expectOnce(found, directory, round);
      expect(found.samples).toEqual({ 0: held, 2: held });
      expect(found.best).toEqual({ "best/round": [best?.round], "best/accuracy": [round(best?.value ?? NaN)] });
      expect(found.tags["prelort.stopped"] ?? found.tags["prelort/stopped"]).toBe("patience");
      expect(readFileSync(path.join(directory, "metrics.jsonl"), "utf8")).toContain("föhn");
    }
  },
);

test.each(trackers)(
  "$name gets each sample once although its process is killed in the middle",
  async ({ name, words, read, round, held }) => {
    const ROUNDS = 40;
    const directory = await runWithSamples(ROUNDS, () => true);
    const first = trackCliIn(folder, directory, "--with", words());
    const position = path.join(directory, "track", `${name}.json`);
    await eventually(() => expect((JSON.parse(readFileSync(position, "utf8")) as { round: number }).round).toBeGreaterThan(1));
    for (const pid of trackersOf(directory)) process.kill(pid, "SIGKILL");
    await first;
    expect(await trackCliIn(folder, directory, "--with", words())).toMatchObject({ code: 0 });
    const found = await read();
    await expectOnce(found, directory, round);
    expect(found.samples).toEqual(Object.fromEntries(Array.from({ length: ROUNDS }, (_, number) => [number, held])));
    expect(found.runs).toHaveLength(1);
  },
);
