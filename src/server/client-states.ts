import { rm } from "node:fs/promises";
import { RefusedError, RunFailedError } from "../errors.ts";
import { readState, readStateRank, removeOtherStates, stateFile, type StateOrigin, writeState } from "../records/client-state-file.ts";
import type { RoundUpdates, UpdateStore } from "../records/update-store.ts";
import type { ClientHistory, RankedClient } from "../strategy/strategy.ts";
import type { Reply } from "../workers/task.ts";
import { fitSeed } from "./task-requests.ts";

export interface Known {
  /** `client-states` of the run's directory. */
  readonly folder: string;
  /** The run's. */
  readonly seed: number;
  /** The committed round in which each client last reported. */
  readonly history: ReadonlyMap<string, Pick<ClientHistory, "round">>;
  /** SHA-256 of each committed round's adapter. */
  readonly hashes: ReadonlyMap<number, string>;
}

/** The states of the clients' optimizers, with `fit.client_state: keep`: each goes on from its client's last fit that counted. */
export class ClientStates {
  readonly #known: Known;
  /** Those that an earlier process left. */
  #areThere = false;

  constructor(known: Known) {
    this.#known = known;
  }

  /**
   * Throws a RunFailedError with every state that this round's fits cannot start from: it is missing, cut short, of another fit, or
   * of another rank. In a resumed run's first round it looks for the states of all clients. No state is read whole.
   */
  requireFor(round: number, selected: readonly RankedClient[], all: readonly RankedClient[]): void {
    if (!this.#areThere) this.#require(all, () => undefined);
    this.#areThere = true;
    this.#require(selected, ({ id, r }, last) =>
      last.r === r
        ? undefined
        : `client ${id} has rank ${r} in round ${round}, but its optimizer's state is of rank ${last.r}, from its fit in round ` +
          `${last.round}: use a rank assignment that changes no rank, or fit.client_state: new`,
    );
  }

  /** The same store of updates, each of which counts only with the state of its client's optimizer on disk. */
  beside(store: UpdateStore): UpdateStore {
    return {
      open: async (round, adapter) => this.#open(await store.open(round, adapter), round, adapter),
      clear: async () => {
        await store.clear();
        await rm(this.#known.folder, { recursive: true, force: true });
      },
    };
  }

  #open(updates: RoundUpdates, round: number, adapter: string): RoundUpdates {
    const { folder } = this.#known;
    return {
      restore: ({ id, seed }, take) =>
        updates.restore({ id, seed }, async (found) => {
          await readState(folder, { clientId: id, round, adapter, seed });
          return take(found);
        }),
      async keep({ id, seed }, reply) {
        const { update, state } = apart(reply);
        await writeState(folder, { clientId: id, round, adapter, seed }, { r: reply.message.r, state });
        return updates.keep({ id, seed }, update);
      },
      stateOf: (clientId) => {
        const origin = this.#originOf(clientId);
        return origin && (() => readOrFail(folder, origin));
      },
      restoreSums: (...sums) => updates.restoreSums(...sums),
      keepSum: (...sum) => updates.keepSum(...sum),
    };
  }

  /** Removes the states that no fit will start from, once the last round is committed. */
  async removeOthers(): Promise<void> {
    const { folder, history } = this.#known;
    await removeOtherStates(folder, new Set([...history].map(([clientId, { round }]) => stateFile({ round, clientId }))));
  }

  #originOf(clientId: string): StateOrigin | undefined {
    const { seed, history, hashes } = this.#known;
    const round = history.get(clientId)?.round;
    if (round === undefined) return undefined;
    return { clientId, round, adapter: hashes.get(round - 1) ?? "", seed: fitSeed(seed, round, clientId) };
  }

  #require(
    clients: readonly RankedClient[],
    problemOf: (client: RankedClient, last: { readonly round: number; readonly r: number }) => string | undefined,
  ): void {
    const problems = clients.flatMap((client) => {
      const origin = this.#originOf(client.id);
      try {
        return (origin && problemOf(client, { round: origin.round, r: readStateRank(this.#known.folder, origin) })) ?? [];
      } catch (error) {
        return described(error);
      }
    });
    if (problems.length === 0) return;
    const more = problems.length > MOST_TOLD ? [`and ${problems.length - MOST_TOLD} more`] : [];
    const told = [...problems.slice(0, MOST_TOLD), ...more].map((problem) => `\n  ${problem}`);
    throw new RunFailedError(`clients' optimizers cannot go on, as fit.client_state: keep asks:${told.join("")}`);
  }
}

const MOST_TOLD = 20;
const REMEDY = "restore the file from a copy, or start again with prelort run --overwrite";

function described(error: unknown): string {
  if (error instanceof RefusedError) return `${error.message}; ${REMEDY}`;
  throw error;
}

/** A damaged state is no fault of the worker that it would be sent to. */
async function readOrFail(folder: string, origin: StateOrigin): Promise<Uint8Array> {
  try {
    return await readState(folder, origin);
  } catch (cause) {
    throw new RunFailedError(described(cause), { cause });
  }
}

/** A reply without the state, and the state. */
function apart(reply: Reply<"fit">): { readonly update: Reply<"fit">; readonly state: Uint8Array } {
  const { state, ...payload } = reply.payload;
  const tensors = reply.message.tensors.filter(({ name }) => name !== "state");
  return { update: { ...reply, payload, message: { ...reply.message, tensors } }, state: state?.bytes ?? new Uint8Array(0) };
}
