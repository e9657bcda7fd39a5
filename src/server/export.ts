import { ConfigError } from "../errors.ts";
import { readTrained, type TrainedOptions } from "./read-trained.ts";
import { rankOf, type SaveOptions, type Saved, saveTrained, type Trained } from "./save.ts";

export interface ExportOptions extends SaveOptions, TrainedOptions {
  /** The folder to make; by default named for the run, the rank and what it is, in the working directory. */
  readonly out?: string | undefined;
  /** With `merge`: the Python interpreter; by default that of the environment that `prelort setup` made. */
  readonly python?: string | undefined;
  /** With `merge`: the folder of the run's own task. Its code is run. */
  readonly taskFolder?: string | undefined;
  /** With `merge`: run the Python code that comes with the model, as the run did. */
  readonly trustRemoteCode?: boolean | undefined;
}

/**
 * Takes a run's result along: its adapter at any rank, as PEFT has it, or merged into its base model. The run may be finished,
 * interrupted or under way; it is only read.
 *
 * Throws a ConfigError for a rank, a round or a folder that cannot be, RunFailedError for a round that was damaged or a base model
 * that is not what it was, EnvironmentError, InterruptedError.
 */
export async function exportRun(directory: string, options: ExportOptions = {}): Promise<Saved> {
  const { round, aggregation, out, python, taskFolder, trustRemoteCode, ...save } = options;
  const recorded = await readTrained(directory, { round, aggregation });
  const trained = save.merge ? withCode(recorded, { python, taskFolder, trustRemoteCode }) : recorded;
  const parts = [
    trained.run,
    `r${rankOf(trained.layout, save.r)}`,
    ...(round === undefined ? [] : [`round${round}`]),
    ...(save.merge ? ["merged"] : []),
  ];
  return saveTrained(trained, out ?? parts.join("-"), save);
}

/** The record may have come from elsewhere, so it chooses no code: what runs is what the caller named. */
function withCode(
  trained: Trained,
  { python, taskFolder, trustRemoteCode }: Pick<ExportOptions, "python" | "taskFolder" | "trustRemoteCode">,
): Trained {
  const { model } = trained.config;
  const issues = [
    ...(model.task.includes(":") && taskFolder === undefined
      ? [
          {
            path: "task-folder",
            message: `is needed: merging runs the run's own task ${model.task}; if you trust its code, name its folder`,
          },
        ]
      : []),
    ...(model.trustRemoteCode && !trustRemoteCode
      ? [{ path: "trust-remote-code", message: "is needed: the run used Python code that comes with the model; if you trust it, say so" }]
      : []),
  ];
  if (issues.length > 0) throw new ConfigError(issues);
  return { ...trained, config: { ...trained.config, model: { ...model, taskFolder }, workers: { python } } };
}
