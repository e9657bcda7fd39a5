import { stringify } from "yaml";
import { type Chart, qualityOverRank, qualityOverRounds } from "./charts.ts";
import { lastConfusions } from "./confusion.ts";
import { confusionPicture } from "./confusion-picture.ts";
import { formatCount } from "./format.ts";
import { html, type Markup, trusted } from "./markup.ts";
import { evaluatedRounds, qualityOf } from "./quality.ts";
import { partitionPicture } from "./partition.ts";
import type { RecordedRun } from "../records/read-run.ts";
import { styleSheet } from "./style.ts";
import { facts, summarise } from "./summary.ts";
import { reportTables, type Table } from "./tables.ts";

/** The report as one HTML document that loads no other files. */
export function renderPage(run: RecordedRun): string {
  const { record } = run;
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${record.name} · prelort</title>
        <style>
          ${trusted(styleSheet(record.layout.tiers.length))}
        </style>
      </head>
      <body>
        <header>
          <p class="kicker">prelort run report</p>
          <h1>${record.name}</h1>
          <p class="lede">${keepUnits(summarise(run))}</p>
          <dl class="facts">
            ${facts(run).map(
              ([name, value]) =>
                html`<div>
                  <dt>${name}</dt>
                  <dd>${value}</dd>
                </div>`,
            )}
          </dl>
        </header>
        <main>
          ${renderFigures(run)} ${reportTables(run).map(renderTable)} ${renderConfusions(run)} ${renderPartition(run)}
          <section>
            <h2>The method</h2>
            <p><b>${record.method.name}.</b> ${record.method.note}</p>
          </section>
          <section>
            <h2>The config, including defaults</h2>
            <pre>${stringify(shortened(record.config), { flowCollectionPadding: true })}</pre>
          </section>
        </main>
        <footer>
          <p>
            prelort ${record.prelort};
            ${Object.entries(record.versions)
              .map(([name, version]) => `${name} ${version}`)
              .join(", ")}
          </p>
        </footer>
      </body>
    </html> `;
  return page.markup;
}

/** Lists with an item for every client are cut, so that the page stays small. */
function shortened(value: unknown): unknown {
  if (Array.isArray(value)) {
    const shown = value.slice(0, SHOWN_ITEMS).map(shortened);
    return value.length > shown.length ? [...shown, `and ${formatCount(value.length - shown.length)} more, see run.json`] : shown;
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shortened(item)]));
}

const SHOWN_ITEMS = 100;

function renderFigures(run: RecordedRun): Markup {
  if (evaluatedRounds(run.rounds).length === 0) return html``;
  const { name, better } = qualityOf(run.rounds);
  return html`<div class="figures">
    ${renderFigure(qualityOverRounds(run), `${name} over rounds`, `The global adapter, truncated to each tier, after every evaluated round; ${better} is better.`)}
    ${renderFigure(qualityOverRank(run), `${name} over rank`, "The same adapter over its ranks: what each additional segment of components adds.")}
  </div>`;
}

function renderConfusions({ record, rounds }: RecordedRun): Markup {
  const { tiers = [] } = lastConfusions(rounds) ?? {};
  const pictures = tiers.flatMap((tier) => {
    const picture = confusionPicture(tier, record.labels);
    return picture === undefined ? [] : [{ r: tier.r, picture }];
  });
  return html`${pictures.map(
    ({ r, picture }) =>
      html`<section>
        <h2>What is taken for what at rank ${r}</h2>
        <p>Rows are the true labels of held-out examples, columns the predicted ones. The shade is the share of the row.</p>
        <div class="scroll partition" role="region" aria-label="Confusion matrix at rank ${r}" tabindex="0">${trusted(picture)}</div>
      </section>`,
  )}`;
}

function renderPartition({ clients }: RecordedRun): Markup {
  const picture = partitionPicture(clients);
  if (picture === undefined) return html``;
  return html`<section>
    <h2>Who trains on what</h2>
    <p>
      One dot per client and value; its area is the number of examples that the client trains on. Numbers at the top and right are totals.
    </p>
    <div class="scroll partition" role="region" aria-label="Who trains on what" tabindex="0">${trusted(picture)}</div>
  </section>`;
}

function renderFigure({ svg, legend, notes }: Chart, title: string, caption: string): Markup {
  return html`<figure>
    <h2>${title}</h2>
    <ul class="legend">
      ${legend.map(
        ({ name, value, color, isDashed }) =>
          html`<li><i class="${isDashed ? "dashed" : "solid"}" style="border-color: ${color}"></i>${name} <b>${value}</b></li>`,
      )}
    </ul>
    ${trusted(svg)}
    <figcaption>${keepUnits([caption, ...notes].join(" "))}</figcaption>
  </figure>`;
}

/** Keeps a number on one line with its unit. */
function keepUnits(text: string): string {
  return text.replaceAll(" %", "\u00a0%");
}

function renderTable({ title, columns, rows, prose = [] }: Table): Markup {
  const kind = (index: number) => (prose.includes(index) ? trusted('class="prose"') : "");
  return html`<section>
    <h2>${title}</h2>
    <div class="scroll" role="region" aria-label="${title}" tabindex="0">
      <table>
        <thead>
          <tr>
            ${columns.map((column, index) => html`<th scope="col" ${kind(index)}>${column}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row) =>
              html`<tr>
                ${row.map((cell, index) => (index === 0 ? html`<th scope="row">${cell}</th>` : html`<td ${kind(index)}>${cell}</td>`))}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}
