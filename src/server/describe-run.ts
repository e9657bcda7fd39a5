import process from "node:process";
import { describeConfig, describePolicyFiles } from "../config/build.ts";
import { aggregationSpecOf } from "../config/policy-specs.ts";
import type { RunConfig } from "../config/schema.ts";
import { packageVersion } from "../installation.ts";
import { describeDoubts, describeMethod } from "../config/method.ts";
import type { ClientTable, RecordedClients } from "../records/client-table.ts";
import { describeSource } from "../records/model-source.ts";
import { encodeBegun, encodeReady, type Origin, type WrittenRecord } from "../records/run-record.ts";
import type { Session } from "./session.ts";
import { remarksOnTraining } from "./training-remarks.ts";

/** What run.json contains before workers are up: everything that determines the run's bytes. */
export function describeRun(config: RunConfig, name: string, origin: Origin | undefined): WrittenRecord {
  const { aggregation } = config.strategy;
  return encodeBegun({
    name,
    prelort: packageVersion(),
    method: describeMethod(config),
    doubts: describeDoubts(config),
    config: describeConfig(config),
    policies: describePolicyFiles(config),
    presents: aggregationSpecOf(aggregation) ? undefined : aggregation.present !== undefined,
    init_from: origin ?? null,
  });
}

/** What is recorded of the clients. */
export function describeClients({ clients, columns }: Pick<Session, "clients" | "columns">): RecordedClients {
  const { ids, n, nTokens: tokens, labelCounts, mix, values } = columns;
  return { ids, n, r: Uint32Array.from(clients, ({ r }) => r), tokens, labelCounts, mix, values };
}

/** What is added once workers are up: the run's versions, device, model and data. `clients` summarises them. */
export function describeSession(config: RunConfig, session: Session, clients: ClientTable["summary"]): WrittenRecord {
  const { prepared, columns, loaded, layout, environment, parameters, peft, leftOut } = session;
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
    remarks: remarksOnTraining(config, prepared, columns),
    clients,
    base_parameters: parameters,
    layout,
    peft,
    left_out: leftOut,
  });
}
