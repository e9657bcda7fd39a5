import { type ComparedSample, compareSamples, firstAndLast, type ToldRound } from "../../report/sample-answers.ts";
import { fill, h, table } from "./dom.ts";

export interface SamplesSection {
  readonly root: HTMLElement;
  update(told: readonly ToldRound[]): void;
}

/** Held-out examples, with the answer of each tier before training and after the last generation. */
export function samplesSection(): SamplesSection {
  const content = h("div");
  const root = h(
    "section",
    { class: "panel wide", hidden: true },
    h("div", { class: "head" }, h("h2", {}, "Samples")),
    h("p", { class: "quiet-text" }, "Held-out examples, with what the adapter of each rank answers; each token is the likeliest."),
    content,
  );
  let shown: string | undefined;
  return {
    root,
    update(told) {
      const { before, after } = firstAndLast(told);
      const samples = compareSamples({ before, after });
      root.hidden = samples.length === 0;
      // Text that is filled in again would lose the place that somebody reads.
      const filled = JSON.stringify([after?.round, samples]);
      if (filled === shown) return;
      shown = filled;
      fill(content, ...samples.map((sample, index) => renderSample(sample, index + 1, after?.round)));
    },
  };
}

function renderSample({ prompt, reference, answers }: ComparedSample, number: number, after: number | undefined): HTMLElement {
  const name = `Sample ${number}`;
  const columns = ["rank", "before training", after === undefined ? "after training" : `after round ${after}`];
  const rows = answers.map((answer) => [`rank ${answer.r}`, words(answer.before), words(answer.after)]);
  return h(
    "section",
    { class: "sample", "aria-label": name },
    h("h3", {}, name),
    h(
      "dl",
      {},
      h("dt", {}, "prompt"),
      long(prompt, `Prompt of sample ${number}`),
      h("dt", {}, "reference"),
      long(reference, `Reference of sample ${number}`),
    ),
    table(`Answers to sample ${number}`, columns, rows, "answers stacked"),
  );
}

/** A text that scrolls if it is long. */
function long(text: string, label: string): HTMLElement {
  const scrolling = { class: "long", tabindex: 0, role: "group", "aria-label": label };
  return h("dd", {}, h("div", scrolling, text === "" ? NO_WORDS : text));
}

function words(answer: string | undefined): HTMLElement | string {
  if (answer === undefined) return h("span", { class: "quiet-text" }, "not yet");
  return answer === "" ? h("span", { class: "quiet-text" }, NO_WORDS) : answer;
}

const NO_WORDS = "(empty)";
