import path from "node:path";
import { snakeKeys } from "../base/case.ts";
import { visibleText } from "../report/visible.ts";
import { writeDurably } from "../records/durable-file.ts";
import type { ComparisonResult } from "./compare.ts";
import { comparisonMarkdown } from "./table.ts";

/** Writes `compare.json`, `compare.md` and `compare.svg` into the folder. Returns their paths. */
export async function writeComparison(result: ComparisonResult, folder: string): Promise<readonly string[]> {
  // The drawing library takes longer to load than everything else together.
  const { comparisonPicture } = await import("./picture.ts");
  const files = [
    ["compare.json", toJson(result)],
    ["compare.md", comparisonMarkdown(result)],
    ["compare.svg", visibleText(comparisonPicture(result))],
  ] as const;
  for (const [name, content] of files) await writeDurably(path.join(folder, name), content);
  return files.map(([name]) => path.join(folder, name));
}

/** One outcome on each line: compact, and a diff still shows which outcome changed. */
function toJson(result: ComparisonResult): string {
  const lines = Object.entries(snakeKeys(result) as Record<string, unknown>).map(([key, value]) => {
    const items = key === "outcomes" ? (value as unknown[]).map((outcome) => JSON.stringify(outcome)) : undefined;
    return `${JSON.stringify(key)}: ${items ? `[\n${items.join(",\n")}\n]` : JSON.stringify(value)}`;
  });
  return `{\n${lines.join(",\n")}\n}\n`;
}
