import path from "node:path";
import { snakeKeys } from "../config/case.ts";
import { writeDurably } from "../server/durable.ts";
import type { ComparisonResult } from "./compare.ts";
import { comparisonPicture } from "./picture.ts";
import { comparisonMarkdown } from "./table.ts";

/** Writes `compare.json`, `compare.md` and `compare.svg` into the folder. Returns their paths. */
export async function writeComparison(result: ComparisonResult, folder: string): Promise<readonly string[]> {
  const files = [
    ["compare.json", `${JSON.stringify(snakeKeys(result), null, 1)}\n`],
    ["compare.md", comparisonMarkdown(result)],
    ["compare.svg", comparisonPicture(result)],
  ] as const;
  for (const [name, content] of files) await writeDurably(path.join(folder, name), content);
  return files.map(([name]) => path.join(folder, name));
}
