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

/**
 * Names and paths of the folders; of a run's own folder, its own. A folder without a run of its own that holds some, such as a
 * comparison's, stands for those. A folder that is not there yet has none.
 */
async function namesIn(root: string): Promise<ReadonlyMap<string, string>> {
  if (await isRun(root)) return new Map([[path.basename(root), root]]);
  const found = await Promise.all(
    (await foldersIn(root)).map(async (name) => {
      const directory = path.join(root, name);
      if (await isRun(directory)) return [[name, directory] as const];
      const inner = await Promise.all(
        (await foldersIn(directory)).map(async (run) => ((await isRun(path.join(directory, run))) ? [run] : [])),
      );
      const runs = inner.flat().map((run) => [`${name}/${run}`, path.join(directory, run)] as const);
      return runs.length > 0 ? runs : [[name, directory] as const];
    }),
  );
  return new Map(found.flat());
}

async function isRun(directory: string): Promise<boolean> {
  return stat(path.join(directory, RUN_RECORD)).then(
    (file) => file.isFile(),
    () => false,
  );
}

/** Names, also of links to folders: runs may lie on another disk. */
async function foldersIn(root: string): Promise<readonly string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(
    entries.map(async (entry) => {
      if (entry.name.startsWith(".")) return [];
      const is = entry.isDirectory() || (entry.isSymbolicLink() && (await isFolder(path.join(root, entry.name))));
      return is ? [entry.name] : [];
    }),
  );
  return found.flat();
}

async function isFolder(directory: string): Promise<boolean> {
  return stat(directory).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
