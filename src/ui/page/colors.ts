import { tierColor } from "../../report/palette.ts";

/* Colours as a canvas needs them: CSS variables and light or dark are resolved. */

let probe: HTMLElement | undefined;
const known = new Map<string, string>();

export function resolveColor(css: string): string {
  const found = known.get(css);
  if (found !== undefined) return found;
  if (!probe) {
    probe = document.createElement("i");
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = css;
  const color = getComputedStyle(probe).color;
  known.set(css, color);
  return color;
}

/** Calls back when light changes to dark or back. Returns what ends that. */
export function onSchemeChange(change: () => void): () => void {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const forget = () => {
    known.clear();
    change();
  };
  query.addEventListener("change", forget);
  return () => query.removeEventListener("change", forget);
}

export { tierColor };

/** Colours of runs that are laid over one another: hues that are far apart, in three lightnesses. */
export function runColor(index: number): string {
  const hue = Math.round((264 + index * 137.5) % 360);
  const [light, dark] = [
    [0.5, 0.78],
    [0.62, 0.68],
    [0.4, 0.86],
  ][Math.floor(index / 8) % 3] as [number, number];
  return `light-dark(oklch(${light} 0.15 ${hue}), oklch(${dark} 0.13 ${hue}))`;
}

export function withAlpha(css: string, percent: number): string {
  return `color-mix(in oklab, ${css} ${percent}%, transparent)`;
}
