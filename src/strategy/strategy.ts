import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { Rng } from "../base/rng.ts";
import type { EncodedIntegers } from "../tensor/integers.ts";

/** A data partition, as the controller sees it. */
export interface Client {
  readonly id: string;
  /** Its index among all clients, from 0. */
  readonly index: number;
  /** n_k: training examples it holds. */
  readonly size: number;
  /** Training examples per label, in the order of the task's labels; empty for tasks without labels. */
  readonly labelCounts: readonly number[];
  /** What the config declares of the device it stands for; empty when nothing is declared. */
  readonly profile: ClientProfile;
}

/** A declared device. Declared, not measured, so that what is decided by it can be repeated. */
export interface ClientProfile {
  readonly memoryGiB?: number | undefined;
  /** Local steps a second. */
  readonly speed?: number | undefined;
}

/** A client with its rank. */
export interface RankedClient extends Client {
  /** r_k, one of the run's tiers. */
  readonly r: number;
}

/** What a policy may know. Its randomness comes from `rng` alone, so that a run can be repeated. */
export interface PolicyContext<C extends Client = Client> {
  readonly clients: readonly C[];
  readonly tiers: readonly number[];
  /** A generator of its own for each purpose, derived from the run's seed (and the round, in a round). */
  rng(purpose: string): Rng;
}

export interface SelectionContext extends PolicyContext<RankedClient> {
  /** Server round, from 1. */
  readonly round: number;
  /** The last report of each client that has reported. */
  readonly history: ReadonlyMap<string, ClientHistory>;
  /**
   * Mean loss of the global adapter, at each candidate's own rank, on up to 64 of its training examples. Workers
   * compute it, one task a candidate.
   */
  losses(candidates: readonly RankedClient[]): Promise<readonly number[]>;
}

export interface ClientHistory {
  /** Round in which it last reported. */
  readonly round: number;
  /** √(mean over its local steps of loss²); null when that was not finite. */
  readonly rmsLoss: number | null;
}

/** Selects the clients of a round, by their ids. */
export type Selection = Policy<(context: SelectionContext) => readonly string[] | Promise<readonly string[]>>;

/** The rank a client trains at: one of `context.tiers`. Asked once per client, before round 1. */
export type RankAssigner = Policy<(client: Client, context: PolicyContext) => number> & {
  /** The rank a client continues with after a fit; without this, ranks stay fixed. */
  readonly revise?: (client: RankedClient, update: Update, layout: AdapterLayout) => number;
  readonly fitOptions?: FitOptions | FitOptionsOf;
};

/** What a strategy asks of a fit. */
export interface FitOptions {
  /** Learning rate of A, relative to the config's. 1 by default. */
  readonly lrA?: number;
  /** Learning rate of B, relative to the config's. 1 by default. */
  readonly lrB?: number;
  /** Components that train, counted from 0; the others of the client's rank only act. All by default. */
  readonly components?: readonly number[];
  /** In place of the config's `fit.full_weight`: the weight of the client's own rank in nested training. */
  readonly fullWeight?: number;
  /** In place of the config's `fit.acting_tail`, where that is above 0: the share of steps in which the tail acts. */
  readonly actingTail?: number;
  /** A stays as it was received; only B is trained. */
  readonly freezeA?: boolean;
  /** λ of a penalty λ·Σ ‖B[:, ρ:]‖·‖A[ρ:, :]‖ over the modules, ρ the tier below the client's rank. */
  readonly tailPenalty?: number;
}

/** What a strategy asks of a client's fit in a round, counted from 1; `rng` is the fit's own. */
export type FitOptionsOf = (client: RankedClient, context: { readonly round: number; rng(purpose: string): Rng }) => FitOptions;

/**
 * A client's fit. Its shapes, scale and rank have been checked, and so have its values (finite, of a plausible size) unless
 * the accumulator `folds`.
 */
export interface Update {
  readonly clientId: string;
  /** Client's rank r_k. */
  readonly r: number;
  /** n_k: training examples the client holds. */
  readonly n: number;
  /** New − received: rows [r, width] and dense. Values that were sent in fewer bits are decoded on first read. */
  readonly delta: Adapter;
  /** What the client received: rounded if the downlink is. */
  readonly received: Adapter;
  /** Reads it again after it has been added; absent if it was not kept on disk. */
  readonly spooled?: SpooledUpdate | undefined;
}

/** A client's update that stays with the worker that trained it, to be added up there. */
export interface HeldUpdate extends Pick<Update, "clientId" | "r" | "n"> {
  /** ‖Δ‖₂ over rows and dense together; null unless the aggregation needs it. */
  readonly norm: number | null;
}

/** The sum of the updates that one worker was granted, in the integers of an order-free sum. */
export interface PartialSum {
  readonly members: readonly HeldUpdate[];
  /** [r, width], with r the largest rank of the members. */
  readonly rows: EncodedIntegers;
  readonly dense: EncodedIntegers;
}

/** An update that is stored elsewhere. */
export interface SpooledUpdate {
  /** Values [from, to) of that tensor of the delta, decoded. */
  read(tensor: "rows" | "dense", from: number, to: number): Promise<Float32Array>;
}

export interface RoundContext {
  readonly round: number;
  readonly layout: AdapterLayout;
  /** The global adapter before the round, at rank R. */
  readonly global: Adapter;
  /** Clients whose updates may arrive; fixes the resolution of order-free sums. */
  readonly clients: readonly RankedClient[];
  /** The state that `finish` of the previous round returned. */
  readonly state: ServerState;
  /** Newly drawn rows at rank R for the next round: A at random, B = 0. */
  fresh(): Float32Array;
  /** A generator of its own for each purpose, derived from the run's seed and the round. */
  rng(purpose: string): Rng;
}

/** An aggregation's state between rounds, by name. */
export type ServerState = Readonly<Record<string, Float32Array>>;

/**
 * How updates become the next global adapter, and which part of it a client starts from. Updates come one by
 * one, in any order; the result must not depend on it.
 */
export interface Aggregation extends PolicyDescription {
  begin(context: RoundContext): Accumulator;
  /** What a client of rank r starts its fit from. */
  distribute(global: Adapter, layout: AdapterLayout, r: number): Adapter;
  /**
   * What this client starts its fit from, and what is evaluated on its own held-out examples, if that differs between clients of
   * one rank. `state` is what the last round's `finish` returned.
   */
  distributeTo?(client: RankedClient, context: Pick<RoundContext, "global" | "layout" | "state">): Adapter;
  /** What is evaluated at each tier and saved, at rank R; by default the global adapter itself. */
  present?(global: Adapter, layout: AdapterLayout): Adapter;
  /** Its accumulators take partial sums: it is a weighted mean of deltas. */
  readonly addsUp?: true;
  /** `finish` reads updates back; each comes with `spooled`, so its values need not be kept. */
  readonly readsSpool?: true;
  readonly fitOptions?: FitOptions | FitOptionsOf;
}

export interface Accumulator {
  /**
   * Throws RefusedError for an update it cannot take, and leaves the sum unchanged. May return a promise for a large update:
   * others may be added before that settles; `finish` is called after all have settled.
   */
  add(update: Update): void | Promise<void>;
  /**
   * `add` itself refuses values that are not finite or too large, as OrderFreeSum does, and the update is not read once it
   * has settled: its memory is then reused.
   */
  readonly folds?: true;
  /** Only for an aggregation that `addsUp`. */
  readonly partialSums?: PartialSums;
  finish(): Aggregate | Promise<Aggregate>;
}

/**
 * Takes sums that workers have made of updates instead of each update. What a worker adds for an update is what `add` would
 * have added, so the result is the same to the last bit, whatever is added where.
 */
export interface PartialSums {
  /** Every value is multiplied by its weight and by this power of two, and rounded to an integer. */
  readonly resolution: number;
  /** Largest |value| of an update that may be added. */
  readonly largestValue: number;
  /** `weigh` needs the norm of each update. */
  readonly needsNorm: boolean;
  /** The weight of an update in the sum. Throws RefusedError if it must not count. */
  weigh(update: HeldUpdate): number;
  /** Counts all members, or throws RefusedError and counts none. */
  merge(sum: PartialSum): void | Promise<void>;
}

export interface Aggregate {
  readonly global: Adapter;
  /** For the next round's context; nothing by default. */
  readonly state?: ServerState;
  /** Per tier m, lowest first: clients that trained the segment below it, and the examples they hold. */
  readonly coverage: readonly { readonly r: number; readonly clients: number; readonly examples: number }[];
  /** Segments (by tier) and `dense` that kept their values because too few clients trained them. None by default. */
  readonly held?: readonly (number | "dense")[];
}

export interface Strategy {
  readonly selection: Selection;
  readonly rankAssignment: RankAssigner;
  readonly aggregation: Aggregation;
}

/** A policy's entry in the run's record: the name and options it was made with. */
export interface PolicyDescription {
  readonly policy?: { readonly name: string; readonly [option: string]: unknown };
}
type Policy<F> = F & PolicyDescription;
