import type { Rng } from "../../src/base/rng.ts";
import { below, choose, isOdds } from "./random.ts";

/** JSON text of a value with one to three mutations: fields missing, renamed, of other types, repeated, deeply nested. */
export function mutateJson(rng: Rng, value: unknown, hostile: readonly unknown[]): string {
  const root = [structuredClone(value)];
  for (let count = 1 + below(rng, 3); count > 0; count--) {
    const slots = slotsIn(root);
    if (slots.length === 0) break;
    const [owner, key] = choose(rng, slots);
    const [other, otherKey] = choose(rng, slots);
    switch (below(rng, 6)) {
      case 0:
        if (Array.isArray(owner)) owner.splice(Number(key), 1);
        else delete owner[key];
        break;
      case 1:
        owner[Array.isArray(owner) ? owner.length : JSON.stringify(choose(rng, hostile))] = structuredClone(owner[key]);
        break;
      case 2:
        owner[key] = structuredClone(other[otherKey]);
        break;
      case 3:
        owner[key] = isOdds(rng, 0.2) ? DEEP : [owner[key]];
        break;
      default:
        owner[key] = structuredClone(choose(rng, hostile));
    }
  }
  const text = JSON.stringify(root[0]) ?? "";
  const nested = text.replace(`"${DEEP}"`, `${"[".repeat(20_000)}${"]".repeat(20_000)}`);
  // A repeated key: the last one counts.
  return isOdds(rng, 0.9) ? nested : nested.replace(/"(\w+)":/, `"$1":${JSON.stringify(choose(rng, hostile))},"$1":`);
}

const DEEP = "as deep as it goes";

type Owner = Record<string | number, unknown>;

/** The owner and key of every value inside. */
function slotsIn(owner: object): (readonly [Owner, string | number])[] {
  return Object.entries(owner).flatMap(([key, value]) => [
    [owner as Owner, key] as const,
    ...(typeof value === "object" && value !== null ? slotsIn(value) : []),
  ]);
}
