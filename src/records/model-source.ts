import type { WorkerMessageOf } from "../protocol/messages.ts";
import { changed } from "./resume-check.ts";
import { type RecordedModel, runRecord } from "./run-record.ts";

type Source = WorkerMessageOf<"loaded">["source"];

/** A model's files by SHA-256, and the commit that a name on the hub resolved to, in the form of `run.json`. */
export function describeSource({ commit, files }: Source) {
  const part = (wanted: Source["files"][number]["part"]) =>
    Object.fromEntries(files.filter(({ part: of }) => of === wanted).map(({ name, sha256 }) => [name, sha256]));
  return { model: { commit, weights: part("weights"), tokenizer: part("tokenizer"), config: part("config") }, code: part("code") };
}

/** SHA-256 by file of the model that an adapter was trained on. */
export function baseFiles({ weights, tokenizer, config }: Omit<RecordedModel, "commit">): Readonly<Record<string, string>> {
  return { ...weights, ...tokenizer, ...config };
}

/** A warning if a run's adapter is used on a model other than the one it was trained on. */
export function baseRemarks(record: unknown, { files }: Source): readonly string[] {
  const { data } = runRecord.pick({ model: true }).safeParse(record);
  if (!data || files.length === 0) return [];
  const was = baseFiles(data.model);
  const is = new Map(files.flatMap(({ part, name, sha256 }) => (part === "code" ? [] : [[name, sha256] as const])));
  const others = [...new Set([...Object.keys(was), ...is.keys()])].filter((name) => was[name] !== is.get(name));
  if (others.length === 0) return [];
  const named = `${others.slice(0, 5).join(", ")}${others.length > 5 ? ` and ${others.length - 5} more` : ""}`;
  return [`the adapter was trained on another base model: ${named} differ (by SHA-256) from those of the run`];
}

/** How one worker's model differs from another's, in words; empty if it does not. */
export function sourceChanges(expected: Source, received: Source): readonly string[] {
  const byFile = (source: Source) => new Map(source.files.map(({ part, name, sha256 }) => [`${part} file ${name}`, sha256]));
  const [was, is] = [byFile(expected), byFile(received)];
  const files = [...new Set([...was.keys(), ...is.keys()])].filter((name) => was.get(name) !== is.get(name));
  const commit = expected.commit === received.commit ? [] : [`commit ${expected.commit ?? "none"} became ${received.commit ?? "none"}`];
  return [...commit, ...files.map((name) => changed(name, was.get(name), is.get(name)))];
}
