import { PrelortError, type RefusedError } from "../../src/errors.ts";

/** The outcomes of one layer's inputs. */
export interface Report {
  readonly inputs: number;
  /** Of these, inputs that passed the check of the outermost form. */
  readonly pastFirstCheck: number;
  /** Accepted replies, of conversations. */
  readonly accepted: number;
  readonly slowestMs: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly crashes: readonly Finding[];
  readonly hangs: readonly Finding[];
}

export interface Finding {
  readonly what: string;
  /** How often. */
  times: number;
  /** The start of the first such input, in base64. */
  readonly example: readonly string[];
}

export interface Tally {
  input(count?: number): void;
  inputs(): number;
  passed(): void;
  accepted(): void;
  refused(name: string): void;
  /** The error is not a refusal. */
  crashed(error: unknown, input: readonly Uint8Array[]): void;
  hung(what: string, input: readonly Uint8Array[]): void;
  /** How long one input took. */
  took(ms: number): void;
  report(): Report;
}

const EXAMPLE_BYTES = 4096;

export function createTally(): Tally {
  let [inputs, pastFirstCheck, accepted, slowestMs] = [0, 0, 0, 0];
  const refusals = new Map<string, number>();
  const [crashes, hangs] = [new Map<string, Finding>(), new Map<string, Finding>()];
  const find = (findings: Map<string, Finding>, what: string, input: readonly Uint8Array[]) => {
    const example = input.map((bytes) => Buffer.from(bytes.subarray(0, EXAMPLE_BYTES)).toString("base64"));
    const finding = findings.get(what) ?? { what, times: 0, example };
    finding.times++;
    findings.set(what, finding);
  };
  return {
    input: (count = 1) => void (inputs += count),
    inputs: () => inputs,
    passed: () => void pastFirstCheck++,
    accepted: () => void accepted++,
    refused: (name) => void refusals.set(name, (refusals.get(name) ?? 0) + 1),
    crashed: (error, input) => find(crashes, nameOf(error), input),
    hung: (what, input) => find(hangs, what, input),
    took: (ms) => void (slowestMs = Math.max(slowestMs, ms)),
    report: () => ({
      inputs,
      pastFirstCheck,
      accepted,
      slowestMs: Math.round(slowestMs),
      refusals: Object.fromEntries([...refusals].toSorted(([, one], [, other]) => other - one)),
      crashes: [...crashes.values()],
      hangs: [...hangs.values()],
    }),
  };
}

/** Names an error by what was refused and expected, without details that differ between inputs. */
export function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return `thrown: ${String(error)}`;
  if (!(error instanceof PrelortError)) return plain(`${error.name}: ${error.message}\n${error.stack?.split("\n")[1]?.trim() ?? ""}`);
  if (error.cause instanceof PrelortError) return `worker ended: ${nameOf(error.cause)}`;
  const type = /^message (\w+)/.exec(error.message)?.[1] ?? "";
  if (!error.message.startsWith("message ")) return plain(error.message.split(/, got |\n/)[0] ?? "");
  const [problem] = /Invalid input: expected \w+|[A-Z][a-z]+ [a-z]+/.exec((error as RefusedError).received) ?? ["another protocol version"];
  return `message ${TYPES.has(type) ? type : "of no known type"}: ${problem}`;
}

const TYPES = new Set("hello beat prepared loaded fitted evaluated text generated failure chunk end credit".split(" "));

function plain(text: string): string {
  return text
    .replace(/^tensor .* of (?=a |\/)/s, "a tensor of ")
    .replaceAll(/\S*\.safetensors/g, "a recorded fit")
    .replaceAll(/\S*journal\.jsonl/g, "a journal")
    .replaceAll(/\[[^\]]*\]/g, "[…]")
    .replaceAll(/\d+/g, "N")
    .replaceAll(/[^\x20-\x7e…\n]+/g, "?")
    .slice(0, 160);
}
