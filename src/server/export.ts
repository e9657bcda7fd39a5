import { readTrained, type TrainedOptions } from "./read-trained.ts";
import { rankOf, type SaveOptions, type Saved, saveTrained } from "./save.ts";

export interface ExportOptions extends SaveOptions, TrainedOptions {
  /** The folder to make; by default named for the run, the rank and what it is, in the working directory. */
  readonly out?: string | undefined;
}

/**
 * Takes a run's result along: its adapter at any rank, as PEFT has it, or merged into its base model. The run may be finished,
 * interrupted or under way; it is only read.
 *
 * Throws a ConfigError for a rank, a round or a folder that cannot be, RunFailedError for a round that was damaged or a base model
 * that is not what it was, EnvironmentError, InterruptedError.
 */
export async function exportRun(directory: string, options: ExportOptions = {}): Promise<Saved> {
  const { round, aggregation, out, ...save } = options;
  const trained = await readTrained(directory, { round, aggregation });
  const parts = [
    trained.run,
    `r${rankOf(trained.layout, save.r)}`,
    ...(round === undefined ? [] : [`round${round}`]),
    ...(save.merge ? ["merged"] : []),
  ];
  return saveTrained(trained, out ?? parts.join("-"), save);
}
