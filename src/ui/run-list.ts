import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import PQueue from "p-queue";
import { RUN_RECORD } from "../records/run-record.ts";
import { createRunRows, type ListedRun, type RunRows } from "./run-rows.ts";

/** The folders of a runs folder. */
export interface RunList extends Pick<RunRows, "since"> {
  readonly folder: string;
  /** Reads what has changed on disk. Calls meanwhile share one reading. */
  refresh(): Promise<void>;
  /** A single row, read without the others; undefined if there is no such folder. Only names that are listed lead to one. */
  look(name: string): Promise<ListedRun | undefined>;
  /** Absolute path of a folder that has been listed. */
  directory(name: string): string | undefined;
}

/** Lists the folders in `folder`; a run's own folder is a list of one. */
export function createRunList(folder: string): RunList {
  const root = path.resolve(folder);
  const rows = createRunRows();
  let reading: Promise<void> | undefined;

  async function read(): Promise<void> {
    const names = await namesIn(root);
    // A few at a time, so that a thousand runs do not open ten thousand files at once.
    const turns = new PQueue({ concurrency: 16 });
    await turns.addAll(
      [...names].map(
        ([name, directory]) =>
          () =>
            rows.update(name, directory),
      ),
    );
    rows.keepOnly(new Set(names.keys()));
  }
  function refresh(): Promise<void> {
    return (reading ??= read().finally(() => (reading = undefined)));
  }

  return {
    folder: root,
    refresh,
    since: rows.since,
    async look(name) {
      const directory = rows.get(name)?.directory ?? (await namesIn(root)).get(name);
      if (directory === undefined) return undefined;
      // The list finds out what is gone.
      if (await isFolder(directory)) await rows.update(name, directory);
      else await refresh();
      return rows.get(name);
    },
    directory: (name) => rows.get(name)?.directory,
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
      return entry.isDirectory() || (entry.isSymbolicLink() && (await isFolder(directory)))
        ? ([entry.name, directory] as const)
        : undefined;
    }),
  );
  return new Map(found.filter((row) => row !== undefined));
}

async function isFolder(directory: string): Promise<boolean> {
  return stat(directory).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
