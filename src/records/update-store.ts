import { readdirSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import PQueue from "p-queue";
import { RefusedError } from "../errors.ts";
import type { Reply } from "../workers/task.ts";
import { writingError } from "./durable-file.ts";
import { isThere, readingError } from "../base/read-file.ts";
import { removeQuietly } from "./checked-file.ts";
import { clientFileName, SAFETENSORS } from "./client-file-name.ts";
import { type ArrivedSum, readRound, readSum, writeSum } from "./sum-file.ts";
import { type FitOrigin, type FoundFit, readFit, readOwner, type StoredFit, writeFit } from "./update-file.ts";

/*
 * The updates of a run, in `updates/`: a resumed run does not repeat the finished fits of an interrupted round, an aggregation
 * that needs all updates at once reads them from here, and a run with `recordUpdates` can be verified. Recorded updates are
 * `updates/<round>/<client>.safetensors`; others are `updates/<k>.safetensors`, and sums of several `updates/sum-<k>.safetensors`,
 * which the next round overwrites.
 */

export interface UpdateStore {
  /** Starts a round that trains from the adapter with this SHA-256, and finds updates of it from an interrupted run. */
  open(round: number, adapter: string): Promise<RoundUpdates>;
  /** Removes all updates that are not recorded. */
  clear(): Promise<void>;
}

export interface RoundUpdates {
  /**
   * Passes a client's update found on disk to `take`, one client at a time; undefined if there is none or it is damaged. An
   * update that `take` refuses is removed and counts as not found.
   */
  restore(client: SeededClient, take: (found: FoundFit) => Promise<unknown>): Promise<Reply<"fit"> | undefined>;
  /** Writes an update completely before this resolves; undefined if there is no room for it, or training again is faster. */
  keep(client: SeededClient, reply: Reply<"fit">): Promise<StoredFit | undefined>;
  /** Passes every partial sum of this round found on disk, if it has this resolution, to `take`. One that `take` refuses is removed. */
  restoreSums(resolution: number, take: (sum: ArrivedSum) => Promise<unknown>): Promise<void>;
  /** Reads the state that a client's optimizer goes on from; undefined if it is new. Absent if all are. */
  stateOf?(clientId: string): (() => Promise<Uint8Array>) | undefined;
  /** Like `keep`, for a partial sum. Resolves with a function that removes it again. */
  keepSum(resolution: number, sum: ArrivedSum): Promise<(() => void) | undefined>;
}

/** A client and the seed of its fit. */
export interface SeededClient {
  readonly id: string;
  readonly seed: string;
}

export interface StoreOptions {
  readonly folder: string;
  readonly isRecorded: boolean;
  /** The aggregation reads updates back: each is kept, however fast it trains. */
  readonly isRead: boolean;
  /** Room on disk for the updates of a round; recorded ones are kept beyond it. */
  readonly maxBytes: number;
}

export function createUpdateStore(options: StoreOptions): UpdateStore {
  const { folder, isRecorded } = options;
  return {
    async open(round, adapter) {
      const found = findUpdates(folder, round);
      const target = isRecorded ? path.join(folder, `${round}`) : folder;
      await mkdir(target, { recursive: true }).catch((cause: unknown) => {
        throw writingError(target, cause);
      });
      return new Round(options, target, { round, adapter }, found);
    },
    async clear() {
      const files = isRecorded ? updatesIn(folder) : ["."];
      await Promise.all(files.map((name) => rm(path.join(folder, name), { recursive: true, force: true })));
    },
  };
}

class Round implements RoundUpdates {
  readonly #options: StoreOptions;
  readonly #target: string;
  readonly #from: Omit<FitOrigin, "seed">;
  readonly #found: ReadonlyMap<string, string>;
  readonly #occupied: ReadonlySet<string>;
  readonly #turns = new PQueue({ concurrency: 1 });
  readonly #foundSums: readonly string[];
  #usedBytes = 0;
  #slot = 0;

  constructor(options: StoreOptions, target: string, from: Omit<FitOrigin, "seed">, found: ReadonlyMap<string, string>) {
    this.#options = options;
    this.#target = target;
    this.#from = from;
    this.#found = found;
    this.#foundSums = findSums(options.folder, from.round);
    this.#occupied = new Set([...found.values(), ...this.#foundSums]);
  }

  async restore({ id, seed }: SeededClient, take: (found: FoundFit) => Promise<unknown>): Promise<Reply<"fit"> | undefined> {
    const found = this.#found.get(id);
    if (found === undefined) return undefined;
    return this.#turns.add(async () => {
      // It may have been kept before the run was set to record its updates.
      const file = this.#options.isRecorded ? this.#recordedFile(id) : found;
      if (file !== found) await rename(found, file);
      try {
        const fit = await readFit(file, { ...this.#from, seed });
        await take(fit);
        return fit.reply;
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error;
        removeQuietly(file);
        return undefined;
      }
    });
  }

  async keep({ id, seed }: SeededClient, reply: Reply<"fit">): Promise<StoredFit | undefined> {
    const { isRecorded } = this.#options;
    const bytes = reply.message.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
    if (!isRecorded && !this.#isWorthKeeping(bytes, reply.message.seconds)) return undefined;
    this.#usedBytes += bytes;
    const file = isRecorded ? this.#recordedFile(id) : this.#nextSlot();
    try {
      return await writeFit(file, id, { ...this.#from, seed }, reply);
    } catch (cause) {
      removeQuietly(file);
      if (isRecorded) throw writingError(file, cause);
      return undefined;
    }
  }

  async restoreSums(resolution: number, take: (sum: ArrivedSum) => Promise<unknown>): Promise<void> {
    for (const file of this.#foundSums) {
      try {
        await take(await readSum(file, { ...this.#from, resolution }));
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error;
        removeQuietly(file);
      }
    }
  }

  async keepSum(resolution: number, sum: ArrivedSum): Promise<(() => void) | undefined> {
    const bytes = Object.values(sum.payload).reduce((total, values) => total + values.bytes.length, 0);
    const seconds = sum.fits.reduce((total, fit) => total + fit.seconds, 0);
    if (!this.#isWorthKeeping(bytes, seconds)) return undefined;
    this.#usedBytes += bytes;
    const file = this.#nextSlot(SUM);
    try {
      await writeSum(file, { ...this.#from, resolution }, sum);
      return () => removeQuietly(file);
    } catch {
      removeQuietly(file);
      return undefined;
    }
  }

  /** Whether there is room for what took so long to train, and training it again would take longer than writing it. */
  #isWorthKeeping(bytes: number, seconds: number): boolean {
    const { isRead, maxBytes } = this.#options;
    return (isRead || seconds >= bytes / DISK_BYTES_PER_SECOND) && this.#usedBytes + bytes <= maxBytes;
  }

  #recordedFile(clientId: string): string {
    return path.join(this.#target, clientFileName(clientId));
  }

  /** A file of an earlier round if there is one, since its disk space is already allocated. */
  #nextSlot(prefix = ""): string {
    for (;;) {
      const file = path.join(this.#target, `${prefix}${this.#slot++}${SAFETENSORS}`);
      if (!this.#occupied.has(file)) return file;
    }
  }
}

/** The recorded update of a client. Throws a RefusedError if it is missing, damaged, or was trained from something else. */
export async function readRecordedFit(folder: string, clientId: string, origin: FitOrigin): Promise<FoundFit> {
  return readFit(path.join(folder, `${origin.round}`, clientFileName(clientId)), origin);
}

/** Whether the updates of a round were recorded. */
export function hasRecorded(folder: string, round: number): boolean {
  return isThere(path.join(folder, `${round}`));
}

const SUM = "sum-";
/** The speed of a slow disk: an update that takes less time to train than to write is not kept. */
const DISK_BYTES_PER_SECOND = 100e6;

function updatesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).filter((name) => name.endsWith(SAFETENSORS));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw readingError(folder, cause);
  }
}

/** Files that hold updates of a round, by client. */
function findUpdates(folder: string, round: number): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const searched of [folder, path.join(folder, `${round}`)]) {
    for (const name of updatesIn(searched)) {
      const file = path.join(searched, name);
      const owner = whatIsIn(file, readOwner);
      if (owner?.round === `${round}`) found.set(owner.clientId, file);
    }
  }
  return found;
}

/** Files that hold partial sums of a round. */
function findSums(folder: string, round: number): readonly string[] {
  const files = updatesIn(folder).filter((name) => name.startsWith(SUM));
  return files
    .toSorted()
    .map((name) => path.join(folder, name))
    .filter((file) => whatIsIn(file, readRound) === `${round}`);
}

function whatIsIn<T>(file: string, read: (file: string) => T): T {
  try {
    return read(file);
  } catch (cause) {
    throw readingError(file, cause);
  }
}
