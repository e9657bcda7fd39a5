#!/usr/bin/env node
import process from "node:process";
import { Command, CommanderError } from "commander";
import { PrelortError } from "../errors.ts";
import { packageVersion } from "../installation.ts";
import { closedOutputCode, watchOutput } from "./closed-output.ts";
import { compareCommand } from "./compare.ts";
import { doctorCommand } from "./doctor.ts";
import { evaluateCommand } from "./evaluate.ts";
import { exportCommand } from "./export.ts";
import { generateCommand } from "./generate.ts";
import { newTaskCommand } from "./new-task.ts";
import { complain } from "./output.ts";
import { planCommand } from "./plan.ts";
import { reportCommand } from "./report.ts";
import { resumeCommand } from "./resume.ts";
import { runCommand } from "./run.ts";
import { setupCommand } from "./setup.ts";
import { tuneCommand } from "./tune.ts";
import { trackCommand } from "./track.ts";
import { uiCommand } from "./ui.ts";
import { verifyCommand } from "./verify.ts";

const exitCodes = { config: 2, environment: 3, interrupted: 130, worker: 1, refused: 1, run: 1 } as const;
const usageExitCode = 2;

const program = new Command("prelort")
  .description("Federated LoRA fine-tuning over devices that are not equal")
  .version(packageVersion())
  .configureOutput({ writeErr: (text) => complain(text.trimEnd()) })
  .exitOverride();
const commands = [
  setupCommand(),
  doctorCommand(),
  planCommand(),
  runCommand(),
  resumeCommand(),
  verifyCommand(),
  reportCommand(),
  uiCommand(),
  trackCommand(),
  exportCommand(),
  evaluateCommand(),
  generateCommand(),
  compareCommand(),
  tuneCommand(),
  newTaskCommand(),
];
for (const command of commands) program.addCommand(command.copyInheritedSettings(program));

watchOutput();
try {
  const [, , first = "-"] = process.argv;
  const isKnown = first.startsWith("-") || first === "help" || commands.some((command) => command.name() === first);
  // With --help after an unknown command, commander would show the general help.
  await program.parseAsync(isKnown ? process.argv : process.argv.slice(0, 3));
} catch (error) {
  const code = report(error);
  process.exitCode = closedOutputCode() ?? code;
}

/** Prints the error, unless commander has, and returns the exit code. Only a bug of prelort prints a stack. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : usageExitCode;
  if (error instanceof PrelortError) {
    complain(`prelort: ${error.message}`);
    return exitCodes[error.kind];
  }
  complain(`prelort: ${error instanceof Error ? error.stack : String(error)}`);
  return 1;
}
