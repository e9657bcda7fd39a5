import { formatPercent, plural } from "./format.ts";

/** What one client trains on. */
interface Holding {
  /** How often each value occurs in what it trains on, the most common first. */
  readonly mix: readonly { readonly value: string; readonly n: number }[];
}

/** The most common values with their shares, such as `artifact 31.0 %, person 12.5 %, 14 more values`. */
export function describeMix({ mix }: Holding, count = 2): string {
  const total = mix.reduce((sum, { n }) => sum + n, 0);
  const shown = mix.slice(0, count).map(({ value, n }) => `${shorten(value, 24)} ${formatPercent(n / total)}`);
  return [...shown, ...(mix.length > count ? [plural(mix.length - count, "more value")] : [])].join(", ");
}

export function shorten(text: string, length: number): string {
  // By code points, so that no character is cut in half.
  return text.length > length
    ? `${Array.from(text)
        .slice(0, length - 1)
        .join("")}…`
    : text;
}
