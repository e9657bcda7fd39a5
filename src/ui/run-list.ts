import { randomBytes } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import PQueue from "p-queue";
import { RUN_RECORD } from "../records/run-record.ts";
import type { ListChange, RunSummary } from "./messages.ts";
import { damagedRow, summarise, type SummaryCache } from "./summary.ts";

/** The folders of a runs folder, as rows that know when they last changed. */
export interface RunList {
  readonly folder: string;
  /** Reads what has changed on disk. Calls meanwhile share one reading. */
  refresh(): Promise<void>;
  /** All rows, or what changed since a version; all of them if the version is of another list. */
  since(version?: string): ListChange & { readonly version: string };
  get(name: string): RunSummary | undefined;
  /** Absolute path of a listed folder: only names that are listed have one. */
  directory(name: string): string | undefined;
}

/** Lists the folders in `folder`; a run's own folder is a list of one. */
export function createRunList(folder: string): RunList {
  const root = path.resolve(folder);
  const rows = new Map<string, { cache: SummaryCache | undefined; version: number; summary: RunSummary | undefined }>();
  const directories = new Map<string, string>();
  const epoch = randomBytes(6).toString("hex");
  let version = 0;
  let reading: Promise<void> | undefined;

  async function read(): Promise<void> {
    const names = await namesIn(root);
    const next = version + 1;
    let hasChanged = false;
    const update = async (name: string, directory: string) => {
      const row = rows.get(name);
      // One folder must not take the others from the page.
      const cache = await summarise(directory, name, row?.cache).catch((error: unknown) => damagedRow(name, error));
      const isSame = row?.summary !== undefined && JSON.stringify(row.summary) === JSON.stringify(cache.summary);
      hasChanged ||= !isSame;
      rows.set(name, isSame ? { ...row, cache } : { cache, version: next, summary: cache.summary });
      directories.set(name, directory);
    };
    // A few at a time, so that a thousand runs do not open ten thousand files at once.
    const turns = new PQueue({ concurrency: 16 });
    await turns.addAll(
      [...names].map(
        ([name, directory]) =>
          () =>
            update(name, directory),
      ),
    );
    for (const [name, row] of rows) {
      if (names.has(name) || row.summary === undefined) continue;
      rows.set(name, { cache: undefined, version: next, summary: undefined });
      directories.delete(name);
      hasChanged = true;
    }
    if (hasChanged) version = next;
  }

  return {
    folder: root,
    refresh: () => (reading ??= read().finally(() => (reading = undefined))),
    since(from) {
      const [of, number] = from?.split("-") ?? [];
      const after = of === epoch ? Number(number) : -1;
      const changed = [...rows].filter((row) => row[1].version > after);
      return {
        version: `${epoch}-${version}`,
        changed: changed.flatMap(([, { summary }]) => summary ?? []),
        removed: changed.flatMap(([name, { summary }]) => (summary || after < 0 ? [] : [name])),
      };
    },
    get: (name) => rows.get(name)?.summary,
    directory: (name) => directories.get(name),
  };
}

/** Names and paths of the folders; of a run's own folder, its own. A folder that is not there yet has none. */
async function namesIn(root: string): Promise<ReadonlyMap<string, string>> {
  const isRun = await stat(path.join(root, RUN_RECORD)).then(
    (file) => file.isFile(),
    () => false,
  );
  if (isRun) return new Map([[path.basename(root), root]]);
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(
    entries.map(async (entry) => {
      if (entry.name.startsWith(".")) return undefined;
      const directory = path.join(root, entry.name);
      // Runs may be linked to from another disk.
      const isFolder = entry.isDirectory() || (entry.isSymbolicLink() && (await stat(directory).catch(() => undefined))?.isDirectory());
      return isFolder === true ? ([entry.name, directory] as const) : undefined;
    }),
  );
  return new Map(found.filter((row) => row !== undefined));
}
