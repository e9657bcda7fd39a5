import { ConfigError } from "../errors.ts";
import { type NamedCode, unnamedCode } from "../records/named-code.ts";
import { readTrained, type TrainedOptions } from "./load-trained.ts";
import { rankOf, type SaveOptions, type Saved, saveTrained, type Trained } from "./save-trained.ts";

export interface ExportOptions extends SaveOptions, TrainedOptions {
  /** The folder to create; by default named after the run and the rank, in the working directory. */
  readonly out?: string | undefined;
  /** With `merge`: the Python interpreter; by default the run's, if the user named it on this machine. */
  readonly python?: string | undefined;
  /** With `merge`: the folder of the run's custom task. Runs its code. */
  readonly taskFolder?: string | undefined;
  /** With `merge`: run the Python code that comes with the model, as the run did. */
  readonly trustRemoteCode?: boolean | undefined;
}

/**
 * Exports a run's result: its adapter at any rank, as PEFT loads it, or merged into its base model. The run may be finished,
 * interrupted or in progress; it is only read.
 *
 * Throws a ConfigError for an invalid rank, round or folder, RunFailedError for a damaged round or a base model that has changed,
 * EnvironmentError, InterruptedError.
 */
export async function exportRun(directory: string, options: ExportOptions = {}): Promise<Saved> {
  const { round, aggregation, out, python, taskFolder, trustRemoteCode, ...save } = options;
  const recorded = await readTrained(directory, { round, aggregation });
  const trained = save.merge ? withCode(recorded, { python, taskFolder, trustRemoteCode }) : recorded;
  const parts = [
    trained.run,
    `r${rankOf(trained.layout, save.r)}`,
    ...(round === undefined ? [] : [round === "best" ? round : `round${round}`]),
    ...(save.merge ? ["merged"] : []),
  ];
  return saveTrained(trained, out ?? parts.join("-"), save);
}

/** The config with the code that the caller named. Code that only the record names is refused, unless the user named it on this machine. */
function withCode(
  trained: Trained,
  { python, taskFolder, trustRemoteCode }: Pick<ExportOptions, "python" | "taskFolder" | "trustRemoteCode">,
): Trained {
  const { model, workers } = trained.config;
  const config = {
    ...trained.config,
    model: { ...model, taskFolder: taskFolder ?? model.taskFolder },
    workers: { python: python ?? workers.python },
  };
  const given: Readonly<Partial<Record<NamedCode["key"], unknown>>> = {
    "workers.python": python,
    "model.task_folder": taskFolder,
    "model.trust_remote_code": trustRemoteCode || undefined,
  };
  const issues = unnamedCode(config).flatMap(({ key, value }) => {
    if (given[key] !== undefined) return [];
    return [
      { path: key, message: `is ${value}, but code that only run.json names is not run: if you trust it, add ${FLAGS[key]?.(value)}` },
    ];
  });
  if (issues.length > 0) throw new ConfigError(issues);
  return { ...trained, config };
}

const FLAGS: Readonly<Partial<Record<NamedCode["key"], (value: string) => string>>> = {
  "workers.python": (value) => `--python ${value}`,
  "model.task_folder": (value) => `--task-folder ${value}`,
  "model.trust_remote_code": () => "--trust-remote-code",
};
