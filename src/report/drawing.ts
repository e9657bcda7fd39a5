import * as Plot from "@observablehq/plot";
import { DOMParser } from "linkedom";
import { visibleLine, visibleText } from "./visible.ts";

export type Picture = Plot.PlotOptions & {
  /** The text for screen readers. */
  readonly label: string;
  /** Makes it a standalone file with this title. */
  readonly fileTitle?: string;
};

/** Renders to SVG without a browser. */
export function draw({ label, fileTitle, ...options }: Picture): string {
  // Not an HTML document, whose title elements linkedom would leave unescaped.
  const document = new DOMParser().parseFromString("<svg/>", "image/svg+xml");
  const drawn = Plot.plot({ ...options, document });
  drawn.setAttribute("role", "img");
  drawn.setAttribute("aria-label", label);
  if (fileTitle === undefined) return toMarkup(drawn);
  const title = drawn.ownerDocument.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = fileTitle;
  drawn.prepend(title);
  drawn.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return `${toMarkup(drawn)}\n`;
}

/** XML allows neither control characters nor U+FFFE and U+FFFF, which names in data may hold. */
function toMarkup({ outerHTML }: { readonly outerHTML: string }): string {
  return visibleText(outerHTML).replace(/[\ufffe\uffff]/g, "\ufffd");
}

/** Options of a picture with marks positioned in pixels. */
export function inPixels(width: number, height: number): Plot.PlotOptions {
  return { width, height, margin: 0, axis: null, x: { type: "identity" }, y: { type: "identity" }, r: { type: "identity" } };
}

/** Width of a line of text in pixels, slightly more than in most fonts; wide characters (Chinese, emoji) count nearly double. */
export function textWidth(text: string, fontSize: number): number {
  return charactersOf(text).reduce((sum, character) => sum + (WIDE.test(character) ? 1.05 : 0.6), 0) * fontSize;
}

function charactersOf(text: string): readonly string[] {
  return Array.from(SEGMENTER.segment(text), ({ segment }) => segment);
}

const SEGMENTER = new Intl.Segmenter("en");
const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Extended_Pictographic}/u;

/**
 * The text, with its middle replaced by … if it is too wide: names often differ only at the end. Invisible characters are
 * escaped.
 */
export function fitText(text: string, width: number, fontSize: number): string {
  const readable = visibleLine(text);
  if (textWidth(readable, fontSize) <= width) return readable;
  const characters = charactersOf(readable);
  const half = (width - textWidth("…", fontSize)) / 2;
  const start = countFitting(characters, half, fontSize);
  const end = countFitting(characters.toReversed(), half, fontSize);
  return `${characters.slice(0, start).join("")}…${characters.slice(characters.length - end).join("")}`;
}

function countFitting(characters: readonly string[], width: number, fontSize: number): number {
  let used = 0;
  const first = characters.findIndex((character) => (used += textWidth(character, fontSize)) > width);
  return first < 0 ? characters.length : first;
}

const CAP: Plot.SymbolImplementation = {
  draw: (path: { moveTo(x: number, y: number): void; lineTo(x: number, y: number): void }) => {
    path.moveTo(-3, 0);
    path.lineTo(3, 0);
  },
};

/** A vertical bar with caps for each datum. (Plot numbers its own markers per process, so the bytes would differ each time.) */
export function whiskers<T>(
  data: readonly T[],
  { x, low, high, dx = 0, stroke }: { x: keyof T & string; low: keyof T & string; high: keyof T & string; dx?: number; stroke: string },
): Plot.Markish[] {
  const style = { x, dx, stroke, strokeOpacity: 0.6, strokeWidth: 1.2 };
  return [
    Plot.ruleX(data, { ...style, y1: low, y2: high }),
    Plot.dot(data, { ...style, y: low, symbol: CAP }),
    Plot.dot(data, { ...style, y: high, symbol: CAP }),
  ];
}

/** Undefined without values. */
export function extent(values: readonly number[]): readonly [low: number, high: number] | undefined {
  const [first] = values;
  if (first === undefined) return undefined;
  return values.reduce<readonly [number, number]>(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [first, first]);
}

/** A scale that fits the values with a little room; logarithmic if they span more than a factor of ten and have no bounds. */
export function fitScale(values: readonly number[], bounds?: { readonly least: number; readonly most: number }): Plot.ScaleOptions {
  const [low, high] = extent(values) ?? [0, 1];
  const isLog = bounds === undefined && low > 0 && high > 10 * low;
  const room = 0.04 * (high - low) || 0.04 * Math.abs(high) || 0.5;
  const { least, most } = bounds ?? { least: -Infinity, most: Infinity };
  const domain = isLog ? [low / 1.1, high * 1.1] : [Math.max(least, low - room), Math.min(most, high + room)];
  const ticks = isLog ? logTicks(low / 1.1, high * 1.1) : 5;
  return { type: isLog ? "log" : "linear", domain, ticks, grid: true, nice: !isLog, ...tickFormat(high) };
}

/** Exponents where Plot's own labels would be too long for the margin. */
function tickFormat(high: number): Plot.ScaleOptions {
  if (high === 0 || (Math.abs(high) < 1e5 && Math.abs(high) >= 1e-3)) return {};
  return { tickFormat: (value: number) => (value === 0 ? "0" : value.toExponential(2).replace(/\.?0*e\+?/, "e")) };
}

/** 1, 2 and 5 times the powers of ten; if those are too many, only powers, or some of them. */
function logTicks(low: number, high: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.floor(Math.log10(high))];
  const powers = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const within = (value: number) => value >= low && value <= high;
  const fine = powers.flatMap((power) => [1, 2, 5].map((factor) => factor * 10 ** power)).filter(within);
  const step = Math.ceil(powers.length / 6);
  return fine.length <= 6
    ? fine
    : powers
        .filter((power) => power % step === 0)
        .map((power) => 10 ** power)
        .filter(within);
}

/** Integer ticks from round 0 at steps of 1, 2 or 5 times a power of ten; at most eleven. */
export function roundTicks(last: number): readonly number[] {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, last / 10)));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => last / candidate <= 10) ?? 1;
  return Array.from({ length: Math.floor(last / step) + 1 }, (_, index) => index * step);
}

/**
 * Moves labels as little as possible (least squares) so that neighbours keep the gap and, if all fit, none leaves the range.
 * Returns them in the order given. (Isotonic regression of the sorted positions minus their gaps, by pooling adjacent violators.)
 */
export function spreadApart(positions: readonly number[], gap: number, [least, most]: readonly [number, number]): readonly number[] {
  const order = positions.map((_, index) => index).toSorted((a, b) => (positions[a] as number) - (positions[b] as number));
  const pools: { mean: number; size: number }[] = [];
  for (const [rank, index] of order.entries()) {
    let pool = { mean: (positions[index] as number) - rank * gap, size: 1 };
    for (let before = pools.at(-1); before && before.mean > pool.mean; before = pools.at(-1)) {
      const size = before.size + pool.size;
      pool = { mean: (before.mean * before.size + pool.mean * pool.size) / size, size };
      pools.pop();
    }
    pools.push(pool);
  }
  const highest = Math.max(least, most - gap * (positions.length - 1));
  const starts = pools.flatMap(({ mean, size }) => Array.from({ length: size }, () => Math.min(highest, Math.max(least, mean))));
  const placed = [...positions];
  for (const [rank, index] of order.entries()) placed[index] = (starts[rank] as number) + rank * gap;
  return placed;
}
