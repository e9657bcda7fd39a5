import path from "node:path";
import { z } from "zod";
import { encodeGlobal } from "../adapter/global-file.ts";
import { initialAdapter } from "../adapter/initialise.ts";
import { buildRun, describeConfig, describePolicyFiles, validateRun } from "../config/build.ts";
import { camelKeys } from "../base/case.ts";
import { withConfig } from "../config/load.ts";
import { ownPolicies } from "../config/own-policies.ts";
import type { RunConfig, RunInput } from "../config/schema.ts";
import { common } from "../config/sections.ts";
import { ConfigError, PrelortError, RunFailedError } from "../errors.ts";
import type { Client } from "../strategy/strategy.ts";
import { indexIds } from "../protocol/id-index.ts";
import { deriveSeed } from "../base/rng.ts";
import { type Commit, type Journal, readJournal } from "../records/journal.ts";
import { isOfCommit, type MetricsLine, readMetrics } from "../records/metrics.ts";
import { originOf, readSource, type Source } from "../artifacts/init-source.ts";
import { CLIENTS } from "../records/client-table.ts";
import { clientsOf } from "./client-list.ts";
import { type Committed, readCommitted } from "./committed-files.ts";
import { openRound } from "./round-aggregation.ts";
import { encodeState, GLOBAL, hashOf, STATE } from "../records/round-files.ts";
import { unnamedPolicies } from "../records/named-code.ts";
import { recordedRun } from "../records/recorded-run.ts";
import { readClients, readRecord, requireReady, runRecord } from "../records/run-record.ts";
import { requireSameRun } from "../records/resume-check.ts";
import { hasRecorded, readRecordedFit } from "../records/update-store.ts";
import { fitSeed } from "./task-requests.ts";
import { startFrom } from "../artifacts/init-adapter.ts";
import { readWholeJournal } from "../records/whole-journal.ts";

export interface VerifiedRound {
  readonly round: number;
  /** Recorded updates from which it was recomputed; null if none were recorded. Round 0 is recomputed from the seed. */
  readonly updates: number | null;
  /** Its adapter and state have the committed bytes, and recomputing them, if possible, gives the same bytes. */
  readonly isAdapterVerified: boolean;
  /** False if its files were removed, as `keep_rounds` asks, so that only its metrics can be checked. */
  readonly isKept: boolean;
  /** Differences in its adapter, state or metrics from what was committed or recomputed. */
  readonly problems: readonly string[];
}

export interface VerifyOptions {
  /** The options of `federate`; needed for a run with custom policies, which its record cannot hold. */
  readonly config?: RunInput | undefined;
  /** Overrides of the recorded config, as `--set` takes them: they name code that only the record names. */
  readonly set?: readonly string[] | undefined;
  onRound?(round: VerifiedRound): void;
}

/**
 * Checks a run directory against its journal: each round's files must have the committed bytes and, if updates were recorded,
 * recomputing its adapter and the server's state from them must give the same bytes. Starts no worker. Throws a RunFailedError
 * if the journal lacks rounds that the directory holds.
 */
export async function verifyRun(
  directory: string,
  { config: given, set = [], onRound }: VerifyOptions = {},
): Promise<readonly VerifiedRound[]> {
  const record = await readRecord(directory);
  const ready = requireReady(directory, record, verifiedRecord);
  const { lines } = await readMetrics(path.join(directory, "metrics.jsonl"));
  const journal = await readWholeJournal(directory, lines);
  const isRecorded = journal.commits.some(({ round }) => hasRecorded(path.join(directory, UPDATES), round));
  const training = given || isRecorded || !hasOwnPolicies(ready) ? await trainingOf(directory, ready, { given, set }) : undefined;
  const begun = training?.config ?? requireReady(directory, record, begunSchema).config;
  const run = { begun, record, training };
  const verified: VerifiedRound[] = [];
  let before: Committed | undefined;
  for (const commit of journal.commits) {
    const { isKept, found, ...checked } = await verifyIfKept(directory, run, { commit, journal, before });
    const isAdapterVerified = isKept && checked.problems.length === 0;
    const asCommitted = isAdapterVerified ? "adapter as committed; " : "";
    const metrics = metricsProblems(journal, commit, lines).map((problem) => `${asCommitted}${problem}`);
    const problems = [...checked.problems, ...metrics];
    const round = { round: commit.round, updates: checked.updates, isAdapterVerified, isKept, problems };
    onRound?.(round);
    verified.push(round);
    before = found;
  }
  return verified;
}

const NOT_KEPT = { isKept: false, found: undefined, updates: null, problems: [] } as const;

async function verifyIfKept(directory: string, run: VerifiedRun, verified: VerifiedCommit) {
  const { commit, journal } = verified;
  if (journal.dropped.has(commit.round)) return NOT_KEPT;
  const checked = await verifyRound(directory, run, verified);
  if (checked.problems.length === 0) return { isKept: true, ...checked };
  // A run under way may have removed it meanwhile.
  const { dropped } = await readJournal(path.join(directory, "journal.jsonl"));
  return dropped.has(commit.round) ? NOT_KEPT : { isKept: true, ...checked };
}

interface VerifiedRun {
  readonly begun: Pick<RunConfig, "seed" | "lora">;
  readonly record: unknown;
  /** What rounds are recomputed with; undefined if no updates were recorded, so that the policies need not be known. */
  readonly training: Training | undefined;
}

interface Training {
  readonly config: RunConfig;
  clientOf(id: string): Client | undefined;
}

interface VerifiedCommit {
  readonly commit: Commit;
  readonly journal: Journal;
  /** The previous round, if its files are as committed. */
  readonly before: Committed | undefined;
}

async function verifyRound(
  directory: string,
  run: VerifiedRun,
  { commit, journal, before }: VerifiedCommit,
): Promise<{ readonly found: Committed | undefined; readonly updates: number | null; readonly problems: readonly string[] }> {
  const { round } = commit;
  const { found, problems } = await readCommitted(directory, commit);
  if (!found) return { found, updates: null, problems };
  try {
    const made =
      round === 0 ? await remakeStart(run.begun, found, run.record) : await remake(directory, run.training, { commit, journal, before });
    if (!made) return { found, updates: null, problems };
    const updates = round === 0 ? 0 : commit.trained.reported.length;
    const recomputed = `recomputing it from ${round === 0 ? "the seed" : "the recorded updates"} gives a different hash`;
    if (made.sha256 !== commit.sha256) problems.push(`${GLOBAL}: ${recomputed}`);
    if (made.stateSha256 !== commit.stateSha256) problems.push(`${STATE}: ${recomputed}`);
    return { found, updates, problems };
  } catch (error) {
    // An unreadable disk says nothing about the round.
    if (!(error instanceof PrelortError) || error.kind === "environment") throw error;
    return { found, updates: null, problems: [...problems, error.message] };
  }
}

/** The last round's metrics follow its commit, so they may still be missing in a run that has not ended. */
function metricsProblems({ commits, hasEnded }: Journal, commit: Commit, lines: readonly MetricsLine[]): readonly string[] {
  const own = lines.filter(({ metrics }) => metrics?.round === commit.round);
  if (own.some(({ metrics }) => metrics && isOfCommit(metrics, commit))) return [];
  if (own[0]) return [`its metrics (metrics.jsonl:${own[0].number}) differ from what was committed`];
  if (!hasEnded && commit === commits.at(-1)) return [];
  const damaged = lines.filter(({ problem }) => problem !== undefined).map(({ number }) => number);
  const where = damaged.length > 0 ? ` (metrics.jsonl is damaged at line ${damaged.join(", ")})` : "";
  return [`its metrics are missing${where}; prelort resume evaluates the round again`];
}

interface Hashes {
  readonly sha256: string;
  readonly stateSha256: string | null;
}

const UPDATES = "updates";

const verifiedRecord = runRecord.pick({ config: true, policies: true, labels: true, clients: true });

const begunSchema = z.object({ config: z.object({ seed: common.seed, lora: common.lora }) });

const IN_SCRIPT = "verifyRun(dir, { config })";

function hasOwnPolicies({ config, policies }: ReadyRecord): boolean {
  return policies !== undefined || ownPolicies(camelKeys(config), IN_SCRIPT).length > 0;
}

interface Policies {
  readonly given: RunInput | undefined;
  readonly set: readonly string[];
}

async function trainingOf(directory: string, ready: ReadyRecord, { given, set }: Policies): Promise<Training> {
  const config = given
    ? validateRun(given)
    : await withConfig(
        await recordedRun(directory, { set, inScript: IN_SCRIPT }, (recorded) => unnamedPolicies(recorded.strategy)),
        async (recorded) => buildRun(recorded),
      );
  const { policies = {} } = ready;
  requireSameRun({ config: ready.config, policies }, { config: describeConfig(config), policies: describePolicyFiles(config) ?? {} });
  const clients = await readClients(directory, ready);
  const describe = clientsOf(clients, ready.labels.length, config.data.profiles);
  const indexOf = indexIds(clients.ids);
  return {
    config,
    clientOf(id) {
      const index = indexOf(id);
      return index < 0 ? undefined : describe(index, {});
    },
  };
}

type ReadyRecord = z.output<typeof verifiedRecord>;

/**
 * Round 0 from the seed and `lora.init_from`; its dense part comes from the model and is used as it is. Undefined if the
 * adapter that `lora.init_from` names is gone or has changed.
 */
async function remakeStart(config: VerifiedRun["begun"], { layout, adapter }: Committed, record: unknown): Promise<Hashes | undefined> {
  const drawn = initialAdapter(layout, adapter.dense, deriveSeed(config.seed, "adapter"));
  const source = await readOrigin(config, record);
  if (config.lora.init_from !== undefined && !source) return undefined;
  const initial = source ? startFrom(source, layout, drawn).adapter : drawn;
  return { sha256: hashOf(encodeGlobal(layout, initial, 0)), stateSha256: null };
}

async function readOrigin(config: VerifiedRun["begun"], record: unknown): Promise<Source | undefined> {
  try {
    const origin = await originOf(config, record);
    return origin && (await readSource(origin.path, origin));
  } catch (error) {
    if (error instanceof ConfigError || error instanceof RunFailedError) return undefined;
    throw error;
  }
}

/** A round's files, recomputed from its recorded updates; undefined if none are recorded. */
async function remake(
  directory: string,
  training: Training | undefined,
  { commit, journal, before }: VerifiedCommit,
): Promise<Hashes | undefined> {
  const { round, trained } = commit;
  const folder = path.join(directory, UPDATES);
  if (!training || !hasRecorded(folder, round)) return undefined;
  const { config, clientOf } = training;
  if (!before && journal.dropped.has(round - 1)) return undefined;
  if (!before) throw new RunFailedError(`it cannot be recomputed, since the files of round ${round - 1} are not as committed`);
  const selected = (journal.asked.get(round) ?? []).map(({ id, r }) => {
    const client = clientOf(id);
    if (!client) throw new RunFailedError(`the journal asks client ${id} to train, which ${CLIENTS} does not list`);
    return { ...client, r };
  });
  const { layout, adapter: global, state, sha256 } = before;
  const open = openRound({ round, config, layout, global, state, selected });
  const reported = new Set(trained.reported);
  for (const client of selected.filter(({ id }) => reported.has(id))) {
    const origin = { round, adapter: sha256, seed: fitSeed(config.seed, round, client.id) };
    const { reply, stored } = await readRecordedFit(folder, client.id, origin);
    await open.take(client, reply, async () => stored);
  }
  const finished = await open.finish();
  const stateParts = encodeState(finished.state ?? {});
  return { sha256: hashOf(encodeGlobal(layout, finished.global, round)), stateSha256: stateParts ? hashOf(stateParts) : null };
}
