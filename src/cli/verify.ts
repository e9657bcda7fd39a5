import { Command } from "commander";
import { RunFailedError } from "../errors.ts";
import { plural } from "../report/format.ts";
import { visibleIn } from "../report/visible.ts";
import { type VerifiedRound, verifyRun } from "../server/verify.ts";
import { print } from "./output.ts";

export function verifyCommand(): Command {
  return new Command("verify")
    .description("check that each round of a run has the committed bytes and follows from the recorded updates")
    .argument("<run-dir>", "run directory, such as runs/quickstart")
    .option(
      "--set <key=value>",
      "name code that only the run's record names, such as --set strategy.aggregation=./mine.mjs#name",
      (value: string, previous: string[]) => [...previous, value],
      [],
    )
    .action(verify);
}

async function verify(directory: string, { set }: { readonly set: readonly string[] }): Promise<void> {
  const rounds = await verifyRun(directory, { set, onRound: (round) => print(describeRound(visibleIn(round))) });
  print(concludeRounds(rounds));
}

/** The last line. Throws a RunFailedError if a round is wrong. */
export function concludeRounds(rounds: readonly VerifiedRound[]): string {
  const wrong = rounds.filter(({ isAdapterVerified, isKept }) => isKept && !isAdapterVerified);
  if (wrong.length > 0) throw new RunFailedError(`${count(wrong, rounds)} cannot be trusted`);
  const unmeasured = rounds.filter(({ problems }) => problems.length > 0);
  if (unmeasured.length > 0) {
    const problem = `all adapters are as committed, but the metrics of ${count(unmeasured, rounds)} are not`;
    throw new RunFailedError(`${problem}; prelort resume evaluates them again`);
  }
  const kept = rounds.filter(({ isKept }) => isKept);
  const remade = kept.filter(({ updates }) => updates !== null);
  const are = kept.length === 1 ? "is" : "are";
  const recomputed = remade.length > 0 ? `; recomputed to the same bytes: ${count(remade, rounds)}` : "";
  const removed = kept.length < rounds.length ? "; keep_rounds removed the others" : "";
  const hint = removed === "" && remade.length < kept.length ? "; with record_updates: true the others could be recomputed, too" : "";
  return `${count(kept, rounds)} ${are} as committed${recomputed}${removed}${hint}`;
}

/** `the start and 2 of 3 rounds`. */
function count(some: readonly VerifiedRound[], all: readonly VerifiedRound[]): string {
  const trained = (rounds: readonly VerifiedRound[]) => rounds.filter(({ round }) => round > 0).length;
  const start = some.some(({ round }) => round === 0) ? ["the start"] : [];
  const rounds = trained(some) > 0 ? [`${trained(some)} of ${plural(trained(all), "round")}`] : [];
  return [...start, ...rounds].join(" and ");
}

export function describeRound({ round, updates, isKept, problems }: VerifiedRound): string {
  const name = round === 0 ? "start" : `round ${round}`;
  if (problems.length > 0) return `${name}: ${problems.join("; ")}`;
  if (!isKept) return `${name}: not kept (keep_rounds)`;
  if (updates === null)
    return `${name}: as committed; ${round === 0 ? "the adapter it started from is missing or has changed" : "no updates were recorded"}`;
  const source = round === 0 ? "the seed" : plural(updates, "update");
  return `${name}: as committed; recomputed from ${source}, same bytes`;
}
