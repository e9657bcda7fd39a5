/** Stands for a value that was not measured. */
export const NOTHING = "—";

export function formatNumber(value: number | null, digits = 3): string {
  if (value === null) return NOTHING;
  if (Math.abs(value) >= 1e12) return value.toExponential(3);
  return Math.abs(value) >= 1000 ? value.toLocaleString("en-US", { maximumSignificantDigits: 4 }) : value.toFixed(digits);
}

export function formatPercent(value: number | null): string {
  return value === null ? NOTHING : `${(100 * value).toFixed(1)} %`;
}

export function formatCount(value: number): string {
  return value.toLocaleString("en-US");
}

export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${Math.round(bytes)} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(1)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 59.5) return `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `1 round`, `2 rounds`. */
export function plural(value: number, noun: string): string {
  return `${formatCount(value)} ${noun}${value === 1 ? "" : "s"}`;
}
