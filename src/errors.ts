/**
 * Every error prelort throws on purpose. A message says what failed, where, what was expected and received, and what to do. The
 * command line maps `kind` to an exit code.
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

/** One problem of a config, or of an argument. */
export interface ConfigIssue {
  /** The dotted key, or the name of the argument. */
  readonly path: string;
  readonly message: string;
  /** `file:line:col`, or the option that gave the value. */
  readonly location?: string;
  /** `path` names an argument of a command or a function, such as `round` or `--picture`, not a key of the config. */
  readonly isArgument?: boolean;
}

/** A config or an argument is invalid. Carries every issue that was found, not only the first. */
export class ConfigError extends PrelortError {
  readonly issues: readonly ConfigIssue[];

  constructor(issues: readonly ConfigIssue[]) {
    super("config", describeIssues(issues));
    this.issues = issues;
  }
}

/** The error for an invalid argument of a command or a function. */
export function argumentError(path: string, message: string): ConfigError {
  return new ConfigError([{ path, message, isArgument: true }]);
}

/** The machine lacks something: Python, a package, the quickstart's data. `remedy` is the command that fixes it. */
export class EnvironmentError extends PrelortError {
  readonly remedy: string;

  constructor(problem: string, remedy: string, options?: ErrorOptions) {
    super("environment", `${problem}\n  To fix it: ${remedy}`, options);
    this.remedy = remedy;
  }
}

export interface WorkerErrorDetails {
  readonly workerId: string;
  /** The machine of a worker that runs elsewhere. */
  readonly host?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  /** Last lines of the worker's standard error. */
  readonly logTail?: string | undefined;
  /** Path of the worker's complete log. */
  readonly logPath?: string | undefined;
  /** The complete traceback of the remote Python. */
  readonly traceback?: string | undefined;
  /** The process died while it had two tasks: it may have been working on the other one. */
  readonly isUncertain?: boolean | undefined;
  /** Its machine, or the way to it, is gone: no fault of what it was doing. */
  readonly isLost?: boolean | undefined;
}

/** A worker process died, hung, never started, or reported that a task failed. */
export class WorkerError extends PrelortError {
  readonly details: WorkerErrorDetails;

  constructor(problem: string, details: WorkerErrorDetails, options?: ErrorOptions) {
    super("worker", withDetails(problem, details), options);
    this.details = details;
  }
}

/** A message or an update was refused. */
export class RefusedError extends PrelortError {
  readonly expected: string;
  readonly received: string;

  constructor(subject: string, expected: string, received: string) {
    super("refused", `${subject}: expected ${expected}, got ${received}`);
    this.expected = expected;
    this.received = received;
  }
}

/** The run could not continue. */
export class RunFailedError extends PrelortError {
  constructor(message: string, options?: ErrorOptions) {
    super("run", message, options);
  }
}

/** The run was stopped by its AbortSignal. Committed rounds are on disk. */
export class InterruptedError extends PrelortError {
  constructor(message = "the run was interrupted", options?: ErrorOptions) {
    super("interrupted", message, options);
  }
}

function describeIssues(issues: readonly ConfigIssue[]): string {
  const count = issues.length === 1 ? "1 problem" : `${issues.length} problems`;
  // A newline in the name of a file or a key must not look like another issue.
  const oneLine = (name: string) => name.replaceAll("\n", "\\n");
  const lines = issues.map(({ location, path, message }) => {
    // The location `--set seed` already names the key.
    const isNamed = location === undefined || location.endsWith(` ${path}`);
    return `  ${oneLine(location ?? path)}  ${isNamed ? "" : `${oneLine(path)}: `}${message}`;
  });
  const heading = issues.every(({ isArgument }) => isArgument) ? count : `the config has ${count}`;
  return `${heading}:\n${lines.join("\n")}`;
}

function withDetails(problem: string, details: WorkerErrorDetails): string {
  const parts = [`worker ${details.workerId}${details.host === undefined ? "" : ` on ${details.host}`}: ${problem}`];
  if (details.traceback) parts.push(indent(details.traceback));
  else if (details.logTail) parts.push(`  last lines of its log:\n${indent(details.logTail)}`);
  if (details.logPath) parts.push(`  whole log: ${details.logPath}`);
  return parts.join("\n");
}

function indent(text: string): string {
  return text.trimEnd().replace(/^/gm, "    ");
}
