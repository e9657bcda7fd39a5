import process from "node:process";
import { describeConfig } from "../config/build.ts";
import { snakeKeys } from "../base/case.ts";
import type { RunConfig } from "../config/schema.ts";
import { packageVersion } from "../installation.ts";
import { describeDoubts, describeMethod } from "../config/method.ts";
import { describeSource } from "../records/model-source.ts";
import type { Origin } from "../artifacts/init-source.ts";
import type { Session } from "./session.ts";
import { remarksOnTraining } from "./training-remarks.ts";

/** What run.json holds before workers are up: everything that decides the bytes. No times. */
export function describeRun(config: RunConfig, name: string, origin: Origin | undefined): object {
  return {
    name,
    prelort: packageVersion(),
    method: describeMethod(config),
    doubts: describeDoubts(config),
    config: describeConfig(config),
    init_from: origin ? snakeKeys(origin) : null,
  };
}

/** What is added once workers are up: what the bytes are made with. */
export function describeSession(config: RunConfig, session: Session): object {
  const { prepared, loaded, layout, clients, environment, parameters, peft, leftOut } = session;
  return {
    versions: { node: process.version, ...environment.versions },
    variables: environment.variables,
    device: snakeKeys(environment.device),
    ...describeSource(loaded.source),
    data: { sha256: prepared.data_sha256 },
    index: prepared.index,
    labels: prepared.labels,
    eval_examples: prepared.n_eval,
    truncated_examples: prepared.n_truncated,
    remarks: remarksOnTraining(config, prepared),
    clients: clients.map(({ id, size, r, labelCounts }, index) => ({
      id,
      n: size,
      r,
      label_counts: labelCounts,
      mix: prepared.clients[index]?.mix ?? [],
      tokens: prepared.clients[index]?.n_tokens ?? 0,
    })),
    base_parameters: parameters,
    layout: snakeKeys(layout),
    peft: snakeKeys(peft),
    left_out: leftOut,
  };
}
