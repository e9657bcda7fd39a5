import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { type Holding, shorten } from "./mix.ts";

const [SHOWN_CLIENTS, SHOWN_VALUES] = [40, 30];
const OTHERS = "others";

/**
 * A dot for every client and value, its area as many examples as the client trains on of it. Values go from the commonest to
 * the rarest. In the colours of a report, or by itself, as an SVG file. Undefined where examples have no values.
 */
export function partitionPicture(holdings: readonly Holding[], { isAlone = false } = {}): string | undefined {
  const totals = new Map<string, number>();
  for (const { mix } of holdings) for (const { value, n } of mix) totals.set(value, (totals.get(value) ?? 0) + n);
  if (totals.size === 0) return undefined;
  const ranked = [...totals].toSorted(([, one], [, other]) => other - one).map(([value]) => value);
  const shown = new Set(ranked.length > SHOWN_VALUES ? ranked.slice(0, SHOWN_VALUES - 1) : ranked);
  const clients = holdings.slice(0, SHOWN_CLIENTS);
  const dots = clients.flatMap(({ id, mix }) => {
    const counts = new Map<string, number>();
    for (const { value, n } of mix) {
      const name = shown.has(value) ? value : OTHERS;
      counts.set(name, (counts.get(name) ?? 0) + n);
    }
    return [...counts].map(([value, n]) => ({ client: id, value, n }));
  });
  const values = [...shown, ...(shown.size < ranked.length ? [OTHERS] : [])];
  const { document } = parseHTML("<html><body></body></html>");
  const width = 140 + Math.max(12, clients.length) * 22;
  const chart = Plot.plot({
    document,
    className: "chart",
    width,
    height: 60 + values.length * 20,
    marginLeft: 128,
    marginTop: 12,
    marginBottom: 44,
    style: { fontFamily: isAlone ? "system-ui, sans-serif" : "inherit", fontSize: "12px", background: isAlone ? "#fff" : "none" },
    x: { type: "point", domain: clients.map(({ id }) => id), label: null, padding: 0.6, tickRotate: clients.length > 14 ? -60 : 0 },
    y: { type: "point", domain: values, label: null, padding: 0.6, tickFormat: (value: string) => shorten(value, 15) },
    r: { range: [0, 9] },
    marks: [
      Plot.gridY({ strokeOpacity: 0.12 }),
      Plot.dot(dots, { x: "client", y: "value", r: "n", fill: isAlone ? "#3f3796" : "var(--accent)", fillOpacity: 0.85 }),
    ],
  });
  if (isAlone) chart.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return chart.outerHTML;
}
