import { z } from "zod";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import { changed } from "./resume-check.ts";

type Source = WorkerMessageOf<"loaded">["source"];

/** What a model is, as `run.json` has it: SHA-256 by file, and of a name on the hub the commit. */
export function describeSource({ commit, files }: Source) {
  const part = (wanted: Source["files"][number]["part"]) =>
    Object.fromEntries(files.filter(({ part: of }) => of === wanted).map(({ name, sha256 }) => [name, sha256]));
  return { model: { commit, weights: part("weights"), tokenizer: part("tokenizer"), config: part("config") }, code: part("code") };
}

const hashes = z.record(z.string(), z.string());
/** As `run.json` has it. */
export const recordedModel = z.object({ weights: hashes, tokenizer: hashes, config: hashes });

export type RecordedModel = z.output<typeof recordedModel>;

/** SHA-256 by file of what an adapter was trained on. */
export function baseFiles({ weights, tokenizer, config }: RecordedModel): Readonly<Record<string, string>> {
  return { ...weights, ...tokenizer, ...config };
}

/** What a person should know where a run's adapter is used on a model that differs from the one it was trained on. */
export function baseRemarks(record: unknown, { files }: Source): readonly string[] {
  const { data } = z.object({ model: recordedModel }).safeParse(record);
  if (!data || files.length === 0) return [];
  const was = baseFiles(data.model);
  const is = new Map(files.flatMap(({ part, name, sha256 }) => (part === "code" ? [] : [[name, sha256] as const])));
  const others = [...new Set([...Object.keys(was), ...is.keys()])].filter((name) => was[name] !== is.get(name));
  if (others.length === 0) return [];
  const named = `${others.slice(0, 5).join(", ")}${others.length > 5 ? ` and ${others.length - 5} more` : ""}`;
  return [`the adapter was trained on another base model: ${named} differ (by SHA-256) from those of the run`];
}

/** In what one worker's model differs from another's, in words; empty if in nothing. */
export function sourceChanges(expected: Source, received: Source): readonly string[] {
  const byFile = (source: Source) => new Map(source.files.map(({ part, name, sha256 }) => [`${part} file ${name}`, sha256]));
  const [was, is] = [byFile(expected), byFile(received)];
  const files = [...new Set([...was.keys(), ...is.keys()])].filter((name) => was.get(name) !== is.get(name));
  const commit = expected.commit === received.commit ? [] : [`commit ${expected.commit ?? "none"} became ${received.commit ?? "none"}`];
  return [...commit, ...files.map((name) => changed(name, was.get(name), is.get(name)))];
}
