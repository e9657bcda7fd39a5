import type uPlot from "./vendor/uplot.js";
import { resolveColor } from "./colors.ts";

/** A place on the x axis that a chart points out. */
export interface Mark {
  readonly x: number;
  readonly name: string;
}

/** A dashed line with the mark's name at its top, on the side where there is room. */
export function drawMark(self: uPlot, { x, name }: Mark, font: string): void {
  const { ctx, bbox } = self;
  const at = Math.round(self.valToPos(x, "x", true));
  if (at < bbox.left || at > bbox.left + bbox.width) return;
  const [line, gap] = [devicePixelRatio, 6 * devicePixelRatio];
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = resolveColor("var(--muted)");
  ctx.lineWidth = line;
  ctx.setLineDash([4 * line, 4 * line]);
  ctx.beginPath();
  ctx.moveTo(at, bbox.top);
  ctx.lineTo(at, bbox.top + bbox.height);
  ctx.stroke();
  ctx.font = font;
  ctx.textBaseline = "top";
  const isLeft = at + gap + ctx.measureText(name).width > bbox.left + bbox.width;
  ctx.textAlign = isLeft ? "right" : "left";
  ctx.fillText(name, isLeft ? at - gap : at + gap, bbox.top);
  ctx.restore();
}
