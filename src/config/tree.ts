/** Keys and indices from the root of a config to a value. */
export type Path = readonly (string | number)[];

export function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function valueAt(root: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, key) => (isMap(value) || Array.isArray(value) ? (value as Record<string, unknown>)[key] : undefined),
    root,
  );
}

/** A copy with the value set at the path. Creates missing maps on the way; undefined if something else is in the way. */
export function withValueAt(root: unknown, [key, ...rest]: Path, value: unknown): unknown {
  if (key === undefined) return value;
  if (Array.isArray(root)) {
    const item = key in root ? withValueAt(root[Number(key)], rest, value) : undefined;
    return item === undefined ? undefined : root.with(Number(key), item);
  }
  if (root !== undefined && !isMap(root)) return undefined;
  const item = withValueAt(root?.[key], rest, value);
  return item === undefined ? undefined : { ...root, [key]: item };
}

/**
 * A copy without the value at the path. The first missing key on the way is set to undefined, so that a schema can refuse an unknown
 * one. Returns undefined if something other than a map is in the way.
 */
export function withoutValueAt(root: unknown, [key, ...rest]: Path): unknown {
  if (key === undefined) return undefined;
  if (Array.isArray(root)) {
    const item = key in root && rest.length > 0 ? withoutValueAt(root[Number(key)], rest) : undefined;
    return item === undefined ? undefined : root.with(Number(key), item);
  }
  if (!isMap(root)) return undefined;
  if (!Object.hasOwn(root, key)) return { ...root, [key]: undefined };
  const { [key]: value, ...others } = root;
  if (rest.length === 0) return others;
  const item = withoutValueAt(value, rest);
  return item === undefined ? undefined : { ...root, [key]: item };
}
