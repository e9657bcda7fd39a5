import { readFile } from "node:fs/promises";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { decodeGlobal, encodeGlobal, type GlobalFile } from "../adapter/global-file.ts";
import { initialAdapter } from "../adapter/initialise.ts";
import { buildRun, describeConfig, validateRun } from "../config/build.ts";
import { camelKeys } from "../config/case.ts";
import { recordedConfig } from "../config/load.ts";
import type { RunConfig, RunInput } from "../config/schema.ts";
import { ConfigError, PrelortError } from "../errors.ts";
import type { RankedClient, ServerState } from "../strategy/strategy.ts";
import { parseJson } from "../tensor/json.ts";
import { deriveSeed } from "../tensor/rng.ts";
import { readLog } from "./durable.ts";
import { askedIn, type Commit, commitsOf } from "./journal.ts";
import { originOf, readSource, type Source } from "./origin.ts";
import { openRound } from "./round.ts";
import { decodeState, encodeState, GLOBAL, hashOf, STATE } from "./round-files.ts";
import { requireSameRun } from "./same-run.ts";
import { hasRecorded, readRecordedFit } from "./spool.ts";
import { startFrom } from "./start-from.ts";

export interface VerifiedRound {
  readonly round: number;
  /** How many recorded updates made it anew; null where none were recorded. The round before training is made of the seed. */
  readonly updates: number | null;
  /** What is not as it was committed, or does not follow from the round before and its updates. */
  readonly problems: readonly string[];
}

export interface VerifyOptions {
  /** What `federate` was given, of a run with policies of one's own, which its record cannot name. */
  readonly config?: RunInput | undefined;
  onRound?(round: VerifiedRound): void;
}

/**
 * Checks a run directory against its journal: that each round's files have the bytes that were committed, and, where updates were
 * recorded, that its adapter and the server's state are what the aggregation makes of them, to the byte. Starts no worker.
 */
export async function verifyRun(directory: string, { config: given, onRound }: VerifyOptions = {}): Promise<readonly VerifiedRound[]> {
  const { config, clients, record } = await readRecord(directory, given);
  const { entries } = await readLog(path.join(directory, "journal.jsonl"));
  const { entries: metrics } = await readLog(path.join(directory, "metrics.jsonl"));
  const asked = askedIn(entries);
  const verified: VerifiedRound[] = [];
  let before: Committed | undefined;
  for (const commit of commitsOf(entries)) {
    const problems: string[] = [];
    let updates: number | null = null;
    let found: Committed | undefined;
    try {
      found = await readCommitted(directory, commit, problems);
      const selected = asked.get(commit.round)?.map(({ id, r }) => ({ ...(clients.get(id) as RankedClient), r })) ?? [];
      const remade =
        commit.round === 0 ? await remakeStart(config, found, record) : await remake(directory, { config, commit, before, selected });
      if (remade) {
        updates = commit.round === 0 ? 0 : commit.trained.reported.length;
        if (remade.sha256 !== commit.sha256) problems.push(`${GLOBAL}: what its updates make is another`);
        if (remade.stateSha256 !== commit.stateSha256) problems.push(`${STATE}: what its updates make is another`);
      }
    } catch (error) {
      if (!(error instanceof PrelortError)) throw error;
      problems.push(error.message);
    }
    const line = metrics[commit.round];
    if (line !== undefined && !hasTrained(line, commit)) problems.push("metrics.jsonl: its line is not what was committed");
    const round = { round: commit.round, updates, problems };
    onRound?.(round);
    verified.push(round);
    before = found;
  }
  return verified;
}

/** A round's adapter and state, as they are on disk. */
interface Committed extends GlobalFile {
  readonly state: ServerState;
}

interface Hashes {
  readonly sha256: string;
  readonly stateSha256: string | null;
}

const recordSchema = z.object({
  config: z.unknown(),
  init_from: z.unknown(),
  clients: z.array(z.object({ id: z.string(), n: z.number(), label_counts: z.array(z.number()) })),
});

async function readRecord(
  directory: string,
  given: RunInput | undefined,
): Promise<{ readonly config: RunConfig; readonly clients: ReadonlyMap<string, Omit<RankedClient, "r">>; readonly record: unknown }> {
  const file = path.join(directory, "run.json");
  const { data: record } = recordSchema.safeParse(parseJson(await readFile(file, "utf8").catch(() => "")));
  if (!record) throw new ConfigError([{ path: "run-dir", message: `${directory} holds no run that had begun to train` }]);
  const config = given ? validateRun(given) : buildRun(recordedConfig(record.config, file));
  requireSameRun({ config: record.config }, { config: describeConfig(config) });
  const clients = record.clients.map(({ id, n, label_counts: labelCounts }, index) => {
    return [id, { id, index, size: n, labelCounts, profile: config.data.profiles?.[index] ?? {} }] as const;
  });
  return { config, clients: new Map(clients), record };
}

async function readCommitted(directory: string, { round, sha256, stateSha256 }: Commit, problems: string[]): Promise<Committed> {
  const place = path.join(directory, "rounds", `${round}`);
  const global = await readFile(path.join(place, GLOBAL)).catch(() => new Uint8Array(0));
  if (hashOf([global]) !== sha256) problems.push(`${GLOBAL}: its bytes are not those that were committed`);
  const state = stateSha256 === null ? undefined : await readFile(path.join(place, STATE)).catch(() => new Uint8Array(0));
  if (state && hashOf([state]) !== stateSha256) problems.push(`${STATE}: its bytes are not those that were committed`);
  const file = decodeGlobal(global, path.join(place, GLOBAL));
  return { ...file, state: state ? decodeState(state, path.join(place, STATE)) : {} };
}

/**
 * Before training all but the dense part, which the model brings, comes from the seed, and from `lora.init_from`: undefined where
 * that is no longer there, or another.
 */
async function remakeStart(config: RunConfig, { layout, adapter }: Committed, record: unknown): Promise<Hashes | undefined> {
  const drawn = initialAdapter(layout, adapter.dense, deriveSeed(config.seed, "adapter"));
  const source = await readOrigin(config, record);
  if (config.lora.init_from !== undefined && !source) return undefined;
  const initial = source ? startFrom(source, layout, drawn).adapter : drawn;
  return { sha256: hashOf(encodeGlobal(layout, initial, 0)), stateSha256: null };
}

async function readOrigin(config: RunConfig, record: unknown): Promise<Source | undefined> {
  try {
    const origin = await originOf(config, record);
    return origin && (await readSource(origin.path, origin));
  } catch (error) {
    if (error instanceof ConfigError) return undefined;
    throw error;
  }
}

/** What the recorded updates of a round make; undefined where none are recorded, or the round before cannot be read. */
async function remake(
  directory: string,
  made: {
    readonly config: RunConfig;
    readonly commit: Commit;
    readonly before: Committed | undefined;
    readonly selected: readonly RankedClient[];
  },
): Promise<Hashes | undefined> {
  const { config, commit, before, selected } = made;
  const { round, trained } = commit;
  const folder = path.join(directory, "updates");
  if (!before || !hasRecorded(folder, round)) return undefined;
  const { layout, adapter: global, state } = before;
  const open = openRound({ round, config, layout, global, state, selected });
  for (const client of selected.filter(({ id }) => trained.reported.includes(id))) {
    const { reply, stored } = await readRecordedFit(folder, round, client.id);
    await open.take(client, reply, async () => stored);
  }
  const finished = await open.finish();
  const stateParts = encodeState(finished.state ?? {});
  return { sha256: hashOf(encodeGlobal(layout, finished.global, round)), stateSha256: stateParts ? hashOf(stateParts) : null };
}

function hasTrained(line: unknown, { round, trained }: Commit): boolean {
  const told = camelKeys(line) as Readonly<Record<string, unknown>>;
  return told["round"] === round && Object.entries(trained).every(([key, value]) => isDeepStrictEqual(told[key], value));
}
