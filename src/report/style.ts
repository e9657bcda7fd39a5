import { PALETTE, tierColor } from "./palette.ts";

/** The report's style sheet. */
export function styleSheet(tiers: number): string {
  const tierColors = Array.from({ length: tiers }, (_, index) => `--tier-${index}: ${tierColor(index, tiers)};`);
  return `${SHEET}\n:root { ${tierColors.join(" ")} }`;
}

const SHEET = `
:root {
  ${PALETTE}
}
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans); max-width: 1080px; margin: 0 auto; padding: 56px 32px 72px; }
header { border-bottom: 1px solid var(--rule); padding-bottom: 32px; }
.kicker { color: var(--muted); font-size: 13px; letter-spacing: 0.04em; }
h1 { font: 600 44px/1.15 var(--serif); letter-spacing: -0.01em; margin: 6px 0 16px; overflow-wrap: anywhere; }
.lede { font: 21px/1.5 var(--serif); max-width: 44em; text-wrap: pretty; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 16px 28px; margin-top: 28px; }
dt { color: var(--muted); font-size: 13px; }
dd { font-size: 15px; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
h2 { font: 600 20px/1.3 var(--serif); margin-bottom: 12px; }
h2::first-letter { text-transform: uppercase; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); column-gap: 28px; margin-top: 36px; }
figure { display: grid; grid-template-rows: subgrid; grid-row: span 4; margin-bottom: 28px; background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: 22px 24px 18px; min-width: 0; }
figure h2 { margin-bottom: 6px; }
figure svg { display: block; width: 100%; height: auto; margin-top: 8px; color: var(--muted); }
figcaption { color: var(--muted); font-size: 14px; margin-top: 8px; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 14px; }
.legend b { overflow-wrap: anywhere; font-weight: 600; font-variant-numeric: tabular-nums; }
.legend i { display: inline-block; width: 20px; border-top: 3px solid; vertical-align: middle; margin-right: 7px; }
.legend i.dashed { border-top-style: dashed; border-top-width: 2px; }
section { margin-top: 44px; }
.figures + section { margin-top: 16px; }
section p { max-width: 46em; }
.scroll { overflow-x: auto; }
.partition svg { max-width: none; color: var(--muted); }
table { border-collapse: collapse; font-size: 14.5px; font-variant-numeric: tabular-nums; min-width: min(100%, 620px); }
th, td { padding: 6px 18px 6px 0; text-align: right; white-space: nowrap; }
th.prose, td.prose { text-align: left; white-space: normal; min-width: 14em; vertical-align: top; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
th:last-child, td:last-child { padding-right: 4px; }
thead th { color: var(--muted); font-weight: 500; border-bottom: 1px solid var(--muted); vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 500; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
pre { background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: 18px 22px; font: 13px/1.55 var(--mono); overflow-x: auto; }
footer { color: var(--muted); font-size: 13px; margin-top: 44px; border-top: 1px solid var(--rule); padding-top: 16px; }
@media (max-width: 600px) { body { padding: 32px 18px; } h1 { font-size: 34px; } .lede { font-size: 18px; } figure { padding: 16px 12px 14px; } table { font-size: 13.5px; } th, td { padding-right: 13px; } }
@media print { body { max-width: none; padding: 0; } figure, section { break-inside: avoid; } }
`.trim();
