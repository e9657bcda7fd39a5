import type { WorkerMessageOf } from "../protocol/messages.ts";
import { changed } from "./same-run.ts";

type Source = WorkerMessageOf<"loaded">["source"];

/** What a model is, as `run.json` has it: SHA-256 by file, and of a name on the hub the commit. */
export function describeSource({ commit, files }: Source): { readonly model: object; readonly code: object } {
  const part = (wanted: Source["files"][number]["part"]) =>
    Object.fromEntries(files.filter(({ part: of }) => of === wanted).map(({ name, sha256 }) => [name, sha256]));
  return { model: { commit, weights: part("weights"), tokenizer: part("tokenizer"), config: part("config") }, code: part("code") };
}

/** In what one worker's model differs from another's, in words; empty if in nothing. */
export function sourceChanges(expected: Source, received: Source): readonly string[] {
  const hashes = (source: Source) => new Map(source.files.map(({ part, name, sha256 }) => [`${part} file ${name}`, sha256]));
  const [was, is] = [hashes(expected), hashes(received)];
  const files = [...new Set([...was.keys(), ...is.keys()])].filter((name) => was.get(name) !== is.get(name));
  const commit = expected.commit === received.commit ? [] : [`commit ${expected.commit ?? "none"} became ${received.commit ?? "none"}`];
  return [...commit, ...files.map((name) => changed(name, was.get(name), is.get(name)))];
}
