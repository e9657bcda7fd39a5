import * as Plot from "@observablehq/plot";
import { draw, fitScale } from "../report/drawing.ts";
import type { TuneResult } from "./tune.ts";

/** Loss over the learning rate, a line for each rung. */
export function tunePicture({ name, rungs, trials, chosen }: TuneResult): string {
  const points = rungs.flatMap((round, rung) =>
    trials.flatMap(({ lr, losses }) => {
      const loss = losses[rung];
      return typeof loss === "number" ? [{ lr, loss, rung: `after round ${round}` }] : [];
    }),
  );
  const values = trials.map(({ lr }) => lr);
  const subtitle = "mean loss over the tiers on held-out examples, by learning rate";
  return draw({
    fileTitle: name,
    label: `${name}: ${subtitle}, a line for each number of rounds; chosen: ${chosen}.`,
    width: 560,
    height: 380,
    marginTop: 64,
    marginLeft: 60,
    marginBottom: 44,
    style: { background: "#fff", color: "#222", fontFamily: "system-ui, sans-serif", fontSize: "12px" },
    x: { type: "log", domain: [Math.min(...values), Math.max(...values)], label: "fit.lr →", ticks: values, tickFormat: String },
    y: { ...fitScale(points.map(({ loss }) => loss)), label: "↑ loss" },
    color: {
      legend: false,
      domain: rungs.map((round) => `after round ${round}`),
      range: ["#9ecae1", "#4292c6", "#08519c"].slice(-rungs.length),
    },
    marks: [
      Plot.text([name], { frameAnchor: "top-left", dx: -50, dy: -52, fontSize: 16, fontWeight: 600 }),
      Plot.text([subtitle], { frameAnchor: "top-left", dx: -50, dy: -34, fill: "#666" }),
      Plot.ruleX([chosen], { stroke: "#d62728", strokeDasharray: "4 3" }),
      Plot.lineY(points, { x: "lr", y: "loss", z: "rung", stroke: "rung", strokeWidth: 1.8, sort: "lr" }),
      Plot.dot(points, { x: "lr", y: "loss", fill: "rung", r: 3.5 }),
      Plot.text(points, Plot.selectFirst({ x: "lr", y: "loss", z: "rung", text: "rung", dy: -10, textAnchor: "start", fill: "#222" })),
    ],
  });
}
