import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { RunConfig } from "../config/schema.ts";
import { RefusedError } from "../errors.ts";
import { decodeExamples, type ExamplesHeader, examplesShape, type ExampleValues, joinExamples } from "../protocol/example-values.ts";
import type { ControllerMessageOf, WorkerMessageOf } from "../protocol/messages.ts";
import type { Span } from "../telemetry/telemetry.ts";
import { named, type Reply, type TaskIdentity, type WorkerPool } from "../workers/task.ts";

/** Where evaluations are done. */
export interface EvaluationPlace {
  readonly config: Pick<RunConfig, "evaluate">;
  readonly pool: WorkerPool;
  readonly layout: AdapterLayout;
  /** How many labels the data has. */
  readonly labels: number;
  /** What the evaluation is a part of. */
  readonly span?: Span | undefined;
}

export interface Evaluation extends Pick<ControllerMessageOf<"evaluate">, "examples" | "client_id"> {
  readonly kind: TaskIdentity["kind"];
  readonly round: number;
  readonly ranks: readonly number[];
  /** Has the largest of these ranks. */
  readonly adapter: Adapter;
  readonly total: number;
  readonly maxNewTokens: number;
  /** How many of the first examples to tell. */
  readonly samples?: number;
}

export interface Evaluated {
  /** The values of all examples at each rank, in the order of the ranks and of the examples. */
  readonly values: readonly ExampleValues[];
  readonly told: WorkerMessageOf<"evaluated">["samples"];
}

/**
 * Evaluates an adapter's prefixes on `total` examples. Fixed shards go to whichever worker is free and are put together in their
 * order, so the figures do not depend on which worker did which shard.
 */
export async function evaluateShards({ config, pool, layout, labels, span }: EvaluationPlace, asked: Evaluation): Promise<Evaluated> {
  const { kind, adapter, ranks, total, maxNewTokens, samples = 0, ...request } = asked;
  const identity = { kind, round: asked.round, ...(asked.client_id === null ? {} : { clientId: asked.client_id }) };
  const { shardSize, batchSize } = config.evaluate;
  let header: ExamplesHeader | undefined;
  const shards = Array.from({ length: Math.ceil(total / shardSize) }, async (_, shard) => {
    const start = shard * shardSize;
    const count = Math.min(shardSize, total - start);
    const told = shard === 0 ? Math.min(samples, count) : 0;
    const range = { start, count, batch_size: batchSize, max_new_tokens: maxNewTokens, samples: told };
    let values: readonly ExampleValues[] = [];
    const reply = await pool.run<"evaluate">({
      ...named({ ...identity, part: shard }),
      request: { type: "evaluate", ...request, ranks: [...ranks], scale: layout.scale, ...range },
      payload: adapter,
      span,
      expect: (message) => ({ examples: examplesShape(message, { ranks, count }) }),
      dtypes: ["F64"],
      accept: (candidate) => {
        const { message, payload } = candidate;
        checkColumns(message, header);
        checkSamples(candidate, ranks, told);
        values = decodeExamples(message, payload.examples ?? { bytes: new Uint8Array(0) }, { ranks, count, labels });
        header = message;
        // The values are a copy.
        return Promise.resolve(true);
      },
      // After all fits, on the workers that they leave free.
      priority: count - Number.MAX_SAFE_INTEGER,
    });
    return { values, samples: reply.message.samples };
  });
  const results = await Promise.all(shards);
  return {
    values: ranks.map((_, place) => joinExamples(results.flatMap(({ values }) => values[place] ?? []))),
    told: results.flatMap((shard) => shard.samples),
  };
}

/** All shards of an evaluation have the columns of the first that arrived. */
function checkColumns(message: ExamplesHeader, first: ExamplesHeader | undefined): void {
  const spell = ({ columns, metrics }: ExamplesHeader) => [...columns, ...metrics].join(", ");
  if (first && spell(message) !== spell(first))
    throw new RefusedError("the columns of an evaluation", `those of its other shards, ${spell(first)}`, spell(message));
}

function checkSamples({ message }: Reply<"evaluate">, ranks: readonly number[], told: number): void {
  const answers = message.samples.map((sample) => sample.answers.length);
  if (answers.length !== told || answers.some((length) => length !== ranks.length))
    throw new RefusedError("an evaluation's samples", `${told}, each with ${ranks.length} answers`, `answers [${answers.join(", ")}]`);
}
