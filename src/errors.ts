/**
 * Every error prelort throws on purpose. A message says what failed, of whom, what was expected and
 * what came, and what to do; `kind` is what the command line turns into an exit code.
 */
export type ErrorKind = "config" | "environment" | "worker" | "refused" | "run" | "interrupted";

export class PrelortError extends Error {
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
    this.name = new.target.name;
  }
}

/** One thing wrong with a config: `path` is the dotted key, `location` is `file:line:col` when it came from a file. */
export interface ConfigIssue {
  readonly path: string;
  readonly message: string;
  readonly location?: string;
}

/** The config cannot be run. Carries every issue that was found, not only the first. */
export class ConfigError extends PrelortError {
  readonly issues: readonly ConfigIssue[];

  constructor(issues: readonly ConfigIssue[]) {
    super("config", describeIssues(issues));
    this.issues = issues;
  }
}

/** The machine lacks something: Python, a package, the quickstart's data. `remedy` is the command that mends it. */
export class EnvironmentError extends PrelortError {
  readonly remedy: string;

  constructor(problem: string, remedy: string, options?: ErrorOptions) {
    super("environment", `${problem}\n  To fix it: ${remedy}`, options);
    this.remedy = remedy;
  }
}

export interface WorkerErrorDetails {
  readonly workerId: string;
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  /** Last lines of the worker's standard error. */
  readonly logTail?: string | undefined;
  /** Path of the worker's whole log. */
  readonly logPath?: string | undefined;
  /** The remote Python traceback, whole. */
  readonly traceback?: string | undefined;
  /** The process ended with two tasks in hand: it may have been at the other one. */
  readonly isUncertain?: boolean | undefined;
}

/** A worker process died, hung, never came up, or reported that a task failed. */
export class WorkerError extends PrelortError {
  readonly details: WorkerErrorDetails;

  constructor(problem: string, details: WorkerErrorDetails, options?: ErrorOptions) {
    super("worker", withDetails(problem, details), options);
    this.details = details;
  }
}

/** A message or an update was not taken: what it was about, what was expected, what came. */
export class RefusedError extends PrelortError {
  readonly expected: string;
  readonly received: string;

  constructor(subject: string, expected: string, received: string) {
    super("refused", `${subject}: expected ${expected}, got ${received}`);
    this.expected = expected;
    this.received = received;
  }
}

/** The run could not go on. */
export class RunFailedError extends PrelortError {
  constructor(message: string, options?: ErrorOptions) {
    super("run", message, options);
  }
}

/** The run was stopped by its AbortSignal. What had been committed is on disk. */
export class InterruptedError extends PrelortError {
  constructor(message = "the run was interrupted", options?: ErrorOptions) {
    super("interrupted", message, options);
  }
}

/** Of a command or a function, rather than of the config: by name, an option or a file. */
const ARGUMENT = /^(run-dir|round|r|out|--.*|.*\.(py|yaml|csv))$/;

function describeIssues(issues: readonly ConfigIssue[]): string {
  const count = issues.length === 1 ? "1 problem" : `${issues.length} problems`;
  // Files and keys may have newlines in their names, which must not look like issues of their own.
  const oneLine = (name: string) => name.replaceAll("\n", "\\n");
  const lines = issues.map(({ location, path, message }) => {
    // `--set seed` names its key itself.
    const isNamed = location === undefined || location.endsWith(` ${path}`);
    return `  ${oneLine(location ?? path)}  ${isNamed ? "" : `${oneLine(path)}: `}${message}`;
  });
  const whose = issues.every(({ path }) => ARGUMENT.test(path)) ? "" : "the config has ";
  return `${whose}${count}:\n${lines.join("\n")}`;
}

function withDetails(problem: string, details: WorkerErrorDetails): string {
  const parts = [`worker ${details.workerId}: ${problem}`];
  if (details.traceback) parts.push(indent(details.traceback));
  else if (details.logTail) parts.push(`  last lines of its log:\n${indent(details.logTail)}`);
  if (details.logPath) parts.push(`  whole log: ${details.logPath}`);
  return parts.join("\n");
}

function indent(text: string): string {
  return text.trimEnd().replace(/^/gm, "    ");
}
