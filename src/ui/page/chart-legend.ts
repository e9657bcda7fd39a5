import type { ChartData, ChartOptions } from "./chart-options.ts";
import { fill, h, table } from "./dom.ts";

/** Names and values: of the place that is pointed at, or the last one with a value. */
export function drawLegend(
  legend: HTMLElement,
  { x, lines }: ChartData,
  { format, xName, formatX = String }: ChartOptions,
  index: number,
): void {
  const items = lines.map(({ name, color, values, isDashed }) => {
    const isLast = index === x.length - 1;
    const value = (isLast ? values.findLast((each) => each !== null) : values[index]) ?? null;
    const swatch = h("i", { "aria-hidden": "true", class: isDashed === true ? "dashed" : null });
    swatch.style.color = color;
    return h("li", {}, swatch, h("span", {}, name), h("b", {}, format(value)));
  });
  const at = x[index];
  const where = at === undefined || index === x.length - 1 ? null : h("li", { class: "where" }, `${xName} ${formatX(at)}`);
  fill(legend, ...items, where);
}

/** `x axis: round, 0 to 12; y axis: accuracy, 4.7 % to 52.3 %`, for those who cannot see the axes. */
export function describeAxes({ xName, yName, format, formatX = String }: ChartOptions, { x, lines, mark }: ChartData): string {
  let [low, high] = [Infinity, -Infinity];
  for (const { values } of lines) {
    for (const value of values) if (value !== null) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  const [first, last] = [x[0], x.at(-1)];
  const across = first === undefined || last === undefined ? "no values yet" : `${formatX(first)} to ${formatX(last)}`;
  const marked = mark ? `; ${mark.name}: ${xName} ${formatX(mark.x)}` : "";
  return `x axis: ${xName}, ${across}; y axis: ${yName()}${low > high ? "" : `, ${format(low)} to ${format(high)}`}${marked}`;
}

/** Most rows of a table of figures; the page says so when it leaves out earlier ones. */
const MAX_ROWS = 300;

export function figuresTable({ title, xName, yName, format, formatX = String }: ChartOptions, { x, lines, mark }: ChartData): HTMLElement {
  const first = Math.max(0, x.length - MAX_ROWS);
  const rows = x.slice(first).map((at, offset) => {
    const index = first + offset;
    const cells = lines.map(({ values, interval }) => {
      const value = format(values[index] ?? null);
      const [low, high] = [interval?.low[index], interval?.high[index]];
      return low === null || low === undefined || high === null || high === undefined
        ? value
        : `${value} (${format(low)} to ${format(high)})`;
    });
    return [mark?.x === at ? `${formatX(at)} (${mark.name})` : formatX(at), ...cells];
  });
  const caption = `${title}: ${yName()} by ${xName}${first > 0 ? `, the last ${MAX_ROWS}` : ""}`;
  return table(caption, [xName, ...lines.map(({ name }) => name)], rows.toReversed());
}
