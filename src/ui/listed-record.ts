import { lstat } from "node:fs/promises";
import path from "node:path";
import { argumentError } from "../errors.ts";
import { readRecord, RUN_RECORD, type WrittenRecord } from "../records/run-record.ts";

/**
 * `run.json` of a listed folder, which may come from somebody else. A link in it could show any file that this user may read, and a
 * pipe would never end. Throws a ConfigError if there is no record that can be read.
 */
export async function readListedRecord(directory: string): Promise<WrittenRecord> {
  const file = await lstat(path.join(directory, RUN_RECORD)).catch(() => undefined);
  if (file && !file.isFile()) throw argumentError("run-dir", `${RUN_RECORD} is not a regular file`);
  if (file && file.size > LARGEST_RECORD)
    throw argumentError("run-dir", `${RUN_RECORD} is larger than prelort writes it: ${file.size} bytes`);
  return readRecord(directory);
}

/** Earlier versions listed the clients in it: tens of MB. */
const LARGEST_RECORD = 2 ** 28;
