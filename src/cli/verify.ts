import { Command } from "commander";
import { RunFailedError } from "../errors.ts";
import { plural } from "../report/format.ts";
import { visibleIn } from "../report/visible.ts";
import { type VerifiedRound, verifyRun } from "../server/verify.ts";
import { print } from "./output.ts";

export function verifyCommand(): Command {
  return new Command("verify")
    .description("check that each round of a run has the bytes that were committed, and follows from the updates that were recorded")
    .argument("<run-dir>", "run directory, such as runs/quickstart")
    .action(verify);
}

async function verify(directory: string): Promise<void> {
  const rounds = await verifyRun(directory, { onRound: (round) => print(describe(visibleIn(round))) });
  const wrong = rounds.filter(({ problems }) => problems.length > 0);
  if (wrong.length > 0) throw new RunFailedError(`${plural(wrong.length, "round")} of ${rounds.length} cannot be trusted`);
  const remade = rounds.filter(({ updates }) => updates !== null).length;
  const hint = remade < rounds.length ? "; record_updates: true keeps what the others would be made of" : "";
  print(`${plural(rounds.length, "round")} as committed, ${remade} of them made anew to the same bytes${hint}`);
}

function describe({ round, updates, problems }: VerifiedRound): string {
  const name = round === 0 ? "before training" : `round ${round}`;
  if (problems.length > 0) return `${name}: ${problems.join("; ")}`;
  if (updates === null)
    return `${name}: as committed; ${round === 0 ? "what it began with is gone, or another" : "no updates were recorded"}`;
  return round === 0
    ? `${name}: as committed, and what the seed, or what it began with, makes`
    : `${name}: as committed, and what its ${plural(updates, "update")} make`;
}
