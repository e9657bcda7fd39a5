import { randomBytes } from "node:crypto";
import type { ListPage, RunSummary } from "./messages.ts";
import { damagedRow, summarise, type SummaryCache } from "./summary.ts";

/** A folder of the list. */
export interface ListedRun {
  readonly summary: RunSummary;
  /** Absolute path. */
  readonly directory: string;
}

/** Rows of the list, which know when they last changed. */
export interface RunRows {
  /** Reads what has changed of a folder. */
  update(name: string, directory: string): Promise<void>;
  /** The other folders are gone. */
  keepOnly(names: ReadonlySet<string>): void;
  get(name: string): ListedRun | undefined;
  /** All rows, or what changed since a version; all of them if the version is of another list. */
  since(version?: string): ListPage;
}

interface Row {
  readonly cache: SummaryCache | undefined;
  /** When it last changed, as the list counts. */
  readonly version: number;
  /** Undefined if the folder is gone. */
  readonly run: ListedRun | undefined;
}

export function createRunRows(): RunRows {
  const rows = new Map<string, Row>();
  const updating = new Map<string, Promise<void>>();
  const epoch = randomBytes(6).toString("hex");
  let version = 0;

  async function read(name: string, directory: string): Promise<void> {
    const row = rows.get(name);
    // One folder must not take the others from the page.
    const cache = await summarise(directory, name, row?.cache).catch((error: unknown) => damagedRow(name, error));
    const run = { summary: cache.summary, directory };
    const isSame = row?.run !== undefined && JSON.stringify(row.run) === JSON.stringify(run);
    rows.set(name, isSame ? { ...row, cache } : { cache, version: ++version, run });
  }

  return {
    // What was read before is continued, so a row is read by one at a time.
    update(name, directory) {
      const running = updating.get(name) ?? read(name, directory).finally(() => updating.delete(name));
      updating.set(name, running);
      return running;
    },
    keepOnly(names) {
      for (const [name, { run }] of rows) {
        if (run && !names.has(name)) rows.set(name, { cache: undefined, version: ++version, run: undefined });
      }
    },
    get: (name) => rows.get(name)?.run,
    since(from) {
      const [of, number] = from?.split("-") ?? [];
      const after = of === epoch ? Number(number) : -1;
      const changed = [...rows].filter((row) => row[1].version > after);
      return {
        version: `${epoch}-${version}`,
        changed: changed.flatMap(([, { run }]) => run?.summary ?? []),
        removed: changed.flatMap(([name, { run }]) => (run || after < 0 ? [] : [name])),
      };
    },
  };
}
