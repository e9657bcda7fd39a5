/** The colours and typefaces of everything that prelort shows in a browser, as CSS declarations of `:root`; light and dark. */
export const PALETTE = `
  color-scheme: light dark;
  --paper: light-dark(#fcfbf8, #15171a);
  --panel: light-dark(#ffffff, #1c1f23);
  --ink: light-dark(#1f1d1a, #e9e6df);
  --muted: light-dark(#6d675e, #9c978d);
  --rule: light-dark(#e3ded4, #33363b);
  --accent: light-dark(#3f3796, #a99bff);
  --lowest: light-dark(#d9961a, #f3bd4a);
  --highest: light-dark(#3f3796, #a99bff);
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, "DejaVu Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
`.trim();

/** CSS colour of a tier. Tiers are an ordinal scale from gold through green to indigo: neighbours differ in hue and lightness. */
export function tierColor(index: number, tiers: number): string {
  const share = tiers === 1 ? 100 : Math.round((100 * index) / (tiers - 1));
  return `color-mix(in oklch increasing hue, var(--lowest), var(--highest) ${share}%)`;
}
