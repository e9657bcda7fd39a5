import path from "node:path";
import type { Adapter } from "../adapter/adapter.ts";
import { decodeGlobal } from "../adapter/global-file.ts";
import { type AdapterFolder, adapterFolders, hasAdapter, writeAdapterFolder } from "../artifacts/peft-folder.ts";
import type { RunConfig } from "../config/schema.ts";
import { RunFailedError } from "../errors.ts";
import type { Commit } from "../records/journal.ts";
import type { RunDirectory } from "../records/run-directory.ts";
import { GLOBAL, readRoundFile, roundFile } from "../records/round-files.ts";
import { present } from "../strategy/validate-policy-output.ts";

interface Run extends Pick<AdapterFolder, "peft" | "layout"> {
  readonly config: RunConfig;
  readonly directory: Pick<RunDirectory, "path" | "file">;
}

type Committed = Pick<Commit, "round" | "sha256">;

/**
 * Writes a run's PEFT adapters at every tier: of the last round in `adapters`, and of the best, if one is marked, in `adapters/best`.
 * `isKept` spares those that are there.
 */
export async function saveAdapters(
  run: Run,
  {
    last,
    best,
    isKept = false,
  }: { readonly last: Committed & { readonly presented: Adapter }; readonly best: Committed | undefined; readonly isKept?: boolean },
): Promise<void> {
  await write(run, run.directory.file("adapters"), isKept, async () => last.presented);
  if (best)
    await write(run, run.directory.file("adapters", "best"), isKept, async () =>
      best.round === last.round ? last.presented : readBest(run, best),
    );
}

async function write({ config, peft, layout }: Run, folder: string, isKept: boolean, read: () => Promise<Adapter>): Promise<void> {
  const wanted = adapterFolders(folder, layout.tiers).filter(({ directory }) => !isKept || !hasAdapter(directory));
  if (wanted.length === 0) return;
  const adapter = await read();
  for (const { r, directory } of wanted) await writeAdapterFolder(directory, { config, peft, layout, adapter, r, dtype: "f32" });
}

async function readBest({ config, directory: { path: root } }: Run, { round, sha256 }: Committed): Promise<Adapter> {
  const { bytes, damage } = await readRoundFile(root, { round, name: GLOBAL, sha256 });
  if (!bytes) {
    const problem = `${root}: the adapters of round ${round}, the best, cannot be saved: ${damage}`;
    throw new RunFailedError(`${problem}; restore the file from a copy, then continue with prelort resume`);
  }
  const { layout, adapter } = decodeGlobal(bytes, path.join(root, roundFile(round, GLOBAL)));
  return present(config.strategy.aggregation, adapter, layout);
}
