import { ConfigError, type ConfigIssue } from "../errors.ts";
import { formatPath, parsePath, type Problem } from "./check.ts";
import { fileSchema } from "./schema.ts";
import { placeKey, type Place, type YamlSource } from "./yaml-source.ts";

/** A path in the config as written, and as resolved. */
export interface ResolvedPath {
  readonly written: string;
  readonly resolved: string;
}

/** Where the key or value at a path was written; for a missing one, where its map begins. */
export function findPlace(source: YamlSource, { path, at }: Pick<Problem, "path" | "at">): Place | undefined {
  const exact = source.places.get(placeKey(path));
  if (exact) return exact[at];
  return path.length > 0 ? findPlace(source, { path: path.slice(0, -1), at: "key" }) : undefined;
}

/**
 * Returns a function that turns a ConfigError about a config into one about its file: keys in YAML's spelling and located, paths as
 * they were written, in the order of reading. In a record, only keys that an option set are located.
 */
export function locator(source: YamlSource, start: Place, isRecord: boolean, paths: readonly ResolvedPath[]) {
  const locate = (issue: ConfigIssue): { readonly issue: ConfigIssue; readonly order: number } => {
    const path = parsePath(issue.path);
    const isKey = String(path[0]) in fileSchema.shape;
    if (issue.location !== undefined || issue.isArgument || !isKey) return { issue, order: Number.MAX_VALUE };
    const place = findPlace(source, { path, at: "value" }) ?? start;
    const message = paths.reduce(asWritten, issue.message);
    // An argument of the command stands for the key.
    if (!place.inFile && place.folder === undefined && !place.location.startsWith("--")) {
      return { issue: { path: place.location, message, isArgument: true }, order: Number.MAX_VALUE };
    }
    const location = isRecord && place.inFile ? {} : { location: place.location };
    return { issue: { path: formatPath(path, "snake_case"), message, ...location }, order: Math.min(place.order, Number.MAX_VALUE) };
  };
  return (error: unknown): unknown => {
    if (!(error instanceof ConfigError)) return error;
    const located = error.issues.map(locate).toSorted((a, b) => a.order - b.order);
    return new ConfigError(located.map(({ issue }) => issue));
  };
}

/** Replaces the path, also where it begins a longer one. */
function asWritten(message: string, { written, resolved }: ResolvedPath): string {
  const escaped = resolved.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  return message.replace(new RegExp(`(?<![\\w./-])${escaped}(?![\\w-]|\\.\\w)`, "g"), () => written);
}
