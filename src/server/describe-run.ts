import process from "node:process";
import { describeConfig } from "../config/build.ts";
import type { RunConfig } from "../config/schema.ts";
import { packageVersion } from "../installation.ts";
import { describeDoubts, describeMethod } from "../config/method.ts";
import { describeSource } from "../records/model-source.ts";
import { encodeBegun, encodeReady, type Origin, type WrittenRecord } from "../records/run-record.ts";
import type { Session } from "./session.ts";
import { remarksOnTraining } from "./training-remarks.ts";

/** What run.json contains before workers are up: everything that determines the run's bytes. */
export function describeRun(config: RunConfig, name: string, origin: Origin | undefined): WrittenRecord {
  return encodeBegun({
    name,
    prelort: packageVersion(),
    method: describeMethod(config),
    doubts: describeDoubts(config),
    config: describeConfig(config),
    init_from: origin ?? null,
  });
}

/** What is added once workers are up: the run's versions, device, model and data. */
export function describeSession(config: RunConfig, session: Session): WrittenRecord {
  const { prepared, loaded, layout, clients, environment, parameters, peft, leftOut } = session;
  return encodeReady({
    versions: { node: process.version, ...environment.versions },
    variables: environment.variables,
    device: environment.device,
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
    layout,
    peft,
    left_out: leftOut,
  });
}
