import { describeBest, describeStop } from "../../report/best-words.ts";
import type { Choice } from "../messages.ts";
import { h, setText } from "./dom.ts";

export interface ChoiceLine {
  readonly root: HTMLElement;
  update(choice: Choice, rounds: number): void;
}

/** `Best: round 3 (loss 1.2, rank 4). Stopped early after round 5 of 8, since the target is reached.` */
export function choiceLine(): ChoiceLine {
  const root = h("p", { class: "choice-line" });
  return {
    root,
    update({ best, stopped }, rounds) {
      const sentences = [best && `Best: ${describeBest(best)}.`, stopped && `Stopped early ${describeStop(stopped, rounds)}.`];
      setText(root, sentences.filter((sentence) => sentence !== null).join(" "));
      root.hidden = !best && !stopped;
    },
  };
}
