import { realpath } from "node:fs/promises";
import path from "node:path";
import { visibleText } from "../report/visible.ts";
import { readTail } from "./tail.ts";

const TAIL_BYTES = 32_768;

/**
 * The end of a worker's log, with control characters shown as escapes. Undefined if the run has none of that name. A run directory may
 * come from somebody else: a link in it is not followed.
 */
export async function readLogTail(
  directory: string,
  workerId: string,
): Promise<{ readonly text: string; readonly isWhole: boolean } | undefined> {
  if (!/^[\w.-]+$/.test(workerId)) return undefined;
  const [root, folder] = await Promise.all([realpath(directory), realpath(path.join(directory, "workers"))]).catch(() => [undefined, ""]);
  if (root === undefined || folder !== path.join(root, "workers")) return undefined;
  const tail = await readTail(path.join(folder, `${workerId}.log`), TAIL_BYTES);
  return tail && { text: visibleText(tail.text), isWhole: tail.isWhole };
}
