/** Where something stands in a config, from the root. */
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

/** A copy with the value put at the path. Maps on the way are made; undefined if something else is in the way. */
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

/** A copy without what stands at the path, if anything does. */
export function withoutValueAt(root: unknown, path: Path): unknown {
  const [parent, key] = [path.slice(0, -1), path.at(-1)];
  const holder = valueAt(root, parent);
  if (!isMap(holder) || key === undefined || !Object.hasOwn(holder, key)) return root;
  const { [key]: _, ...rest } = holder;
  return parent.length > 0 ? withValueAt(root, parent, rest) : rest;
}
