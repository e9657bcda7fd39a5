import { rm } from "node:fs/promises";
import path from "node:path";
import type { KeptRounds } from "../config/best-section.ts";
import { EnvironmentError } from "../errors.ts";
import type { JournalEntry } from "./journal.ts";
import type { LineLog } from "./line-log.ts";
import { ROUNDS } from "./round-files.ts";

/*
 * The rounds whose files stay on disk, by `keep_rounds`. The journal names those that are removed before they are, so that a resume
 * after a kill finishes the removal, and nobody takes them for damaged.
 */

/** Whether a round's files are kept once `last` is committed. The last round, from which a resume continues, always is. */
export function keepsRound(keep: KeptRounds, last: number, best: number | undefined): (round: number) => boolean {
  if (keep === "all") return () => true;
  const first = keep === "best" ? last : last - keep + 1;
  return (round) => round >= first || round === best;
}

/** The rounds whose files are on disk. */
export class RoundFolders {
  readonly #root: string;
  readonly #present: Set<number>;
  /** Named in the journal, not yet removed. */
  readonly #dropped: Set<number>;

  constructor(root: string, { present, dropped }: { readonly present: Iterable<number>; readonly dropped: Iterable<number> }) {
    this.#root = root;
    [this.#present, this.#dropped] = [new Set(present), new Set(dropped)];
  }

  add(round: number): void {
    this.#present.add(round);
    this.#dropped.delete(round);
  }

  /** Drops the others. The journal must be on disk before `removeDropped`. */
  drop(keeps: (round: number) => boolean, journal: Pick<LineLog<JournalEntry>, "append">): void {
    const others = [...this.#present].filter((round) => !keeps(round));
    for (const round of others) {
      this.#present.delete(round);
      this.#dropped.add(round);
    }
    if (others.length > 0) journal.append({ type: "drop", rounds: others });
  }

  /** Removes what was dropped, by an earlier process too. */
  async removeDropped(): Promise<void> {
    for (const round of this.#dropped) {
      const folder = path.join(this.#root, ROUNDS, `${round}`);
      await rm(folder, { recursive: true, force: true }).catch((cause: unknown) => {
        const problem = `${folder} could not be removed, as keep_rounds asks: ${(cause as Error).message}`;
        throw new EnvironmentError(problem, "check that the run's folder can be written to, then continue with prelort resume", { cause });
      });
      this.#dropped.delete(round);
    }
  }
}
