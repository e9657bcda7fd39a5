import path from "node:path";
import { snakeKeys } from "../base/case.ts";
import { writeDurably } from "../records/durable-file.ts";
import { plural } from "../report/format.ts";
import { visibleText } from "../report/visible.ts";
import type { TuneResult } from "./tune.ts";

/** Writes `tune.json`, `tune.md` and `tune.svg` into the folder of the trials. Returns their paths. */
export async function writeTune(result: TuneResult, folder: string): Promise<readonly string[]> {
  // The drawing library takes longer to load than everything else together.
  const { tunePicture } = await import("./tune-picture.ts");
  const files = [
    ["tune.json", `${JSON.stringify(snakeKeys(result), undefined, 2)}\n`],
    ["tune.md", tuneMarkdown(result)],
    ["tune.svg", visibleText(tunePicture(result))],
  ] as const;
  for (const [name, content] of files) await writeDurably(path.join(folder, name), content);
  return files.map(([name]) => path.join(folder, name));
}

/** The losses of every value at each rung, and what they cost. */
export function tuneMarkdown({ name, seeds, rungs, trials, chosen, isAtEnd, trainedRounds, gridRounds, isSideBySide }: TuneResult): string {
  const head = ["fit.lr", ...rungs.map((round) => `after round ${round}`)];
  const failures = trials.flatMap(({ lr, failure }) =>
    failure === undefined ? [] : [`- ${lr}: ${visibleText(failure.split("\n", 1)[0] ?? "")}`],
  );
  const rows = trials.map(({ lr, losses, failure }) => [
    lr === chosen ? `**${lr}**` : `${lr}`,
    ...rungs.map((_, rung) => (rung < losses.length ? (losses[rung]?.toFixed(4) ?? (failure === undefined ? "diverged" : "failed")) : "–")),
  ]);
  const table = [head, head.map(() => "---:"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  const end = isAtEnd ? " It is at an end of what was tried: a better one may lie beyond." : "";
  return [
    `# ${name}`,
    `Loss on held-out examples, mean over the tiers${seeds.length > 1 ? " and the seeds" : ""} (${plural(seeds.length, "seed")}: ${seeds.join(", ")}). – was left out before.`,
    ...(isSideBySide ? ["These runs trained side by side: their figures are those of single runs up to rounding."] : []),
    table.join("\n"),
    ...(failures.length > 0 ? [`Trials that failed:\n\n${failures.join("\n")}`] : []),
    `Chosen: \`fit.lr: ${chosen}\`.${end} Trained ${plural(trainedRounds, "round")}; the whole grid has ${gridRounds}.`,
    "",
  ].join("\n\n");
}
