import path from "node:path";
import { decodeGlobal, type GlobalFile } from "../adapter/global-file.ts";
import type { Commit } from "../records/journal.ts";
import { decodeState, GLOBAL, readRoundFile, roundFile, STATE } from "../records/round-files.ts";
import type { ServerState } from "../strategy/strategy.ts";

/** A round's adapter and state on disk. */
export interface Committed extends GlobalFile {
  readonly sha256: string;
  readonly state: ServerState;
}

/** A round's files; none if one of them differs from what was committed. */
export async function readCommitted(
  directory: string,
  { round, sha256, stateSha256 }: Commit,
): Promise<{ found?: Committed; problems: string[] }> {
  const global = await readRoundFile(directory, { round, name: GLOBAL, sha256 });
  const state = stateSha256 === null ? undefined : await readRoundFile(directory, { round, name: STATE, sha256: stateSha256 });
  const problems = [global.damage, state?.damage].filter((damage) => damage !== undefined);
  if (!global.bytes || (state && !state.bytes)) return { problems };
  const file = decodeGlobal(global.bytes, path.join(directory, roundFile(round, GLOBAL)));
  const remembered = state?.bytes ? decodeState(state.bytes, path.join(directory, roundFile(round, STATE))) : {};
  return { found: { ...file, sha256, state: remembered }, problems };
}
