import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { Rng } from "../tensor/rng.ts";

/** A data partition, as the controller sees it. */
export interface Client {
  readonly id: string;
  /** Its place among all clients, from 0. */
  readonly index: number;
  /** n_k: training examples it holds. */
  readonly size: number;
  /** Training examples per label, in the order of the task's labels; empty for tasks without labels. */
  readonly labelCounts: readonly number[];
}

/** A client once its rank is known. */
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
}

/** Who trains in a round: ids of the clients selected. */
export type Selection = Policy<(context: SelectionContext) => readonly string[] | Promise<readonly string[]>>;

/** The rank a client trains at: one of `context.tiers`. Asked once per client, before round 1. */
export type RankAssigner = Policy<(client: Client, context: PolicyContext) => number>;

/** A client's fit, validated: shapes, scale and rank are right and every value is finite. */
export interface Update {
  readonly clientId: string;
  /** Client's rank r_k. */
  readonly r: number;
  /** n_k: training examples the client holds. */
  readonly n: number;
  /** New − received: rows [r, width] and dense. */
  readonly delta: Adapter;
  /** What the client had received. */
  readonly received: Adapter;
}

export interface RoundContext {
  readonly round: number;
  readonly layout: AdapterLayout;
  /** The global adapter before the round, at rank R. */
  readonly global: Adapter;
  /** Clients whose updates may come; fixes the resolution of order-free sums. */
  readonly clients: readonly RankedClient[];
}

/**
 * How updates become the next global adapter, and what of it a client is handed. Updates come one by
 * one, in any order; the result must not depend on it.
 */
export interface Aggregation extends PolicyDescription {
  begin(context: RoundContext): Accumulator;
  /** What a client of rank r starts its fit from. */
  distribute(global: Adapter, layout: AdapterLayout, r: number): Adapter;
}

export interface Accumulator {
  /** Throws RefusedError, and leaves the sum as it was, for an update it cannot take. */
  add(update: Update): void;
  finish(): Aggregate;
}

export interface Aggregate {
  readonly global: Adapter;
  /** Per tier m, lowest first: clients that trained the segment below it, and the examples they hold. */
  readonly coverage: readonly { readonly r: number; readonly clients: number; readonly examples: number }[];
}

export interface Strategy {
  readonly selection: Selection;
  readonly rankAssignment: RankAssigner;
  readonly aggregation: Aggregation;
}

/** What the run's record says of a policy: the name and options it was made with. */
export interface PolicyDescription {
  readonly policy?: { readonly name: string; readonly [option: string]: unknown };
}
type Policy<F> = F & PolicyDescription;
