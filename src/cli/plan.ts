import { access, constants, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { Command } from "commander";
import { buildRun } from "../config/build.ts";
import { openConfig, withConfig } from "../config/load.ts";
import { argumentError } from "../errors.ts";
import { formatBytes, formatCount, formatSeconds, plural } from "../report/format.ts";
import { describeMix } from "../report/mix.ts";
import type { Table } from "../report/tables.ts";
import { renderTextTable } from "../report/text-table.ts";
import { visibleIn } from "../report/visible.ts";
import type { Slots } from "../planning/measure.ts";
import { type Plan, plan } from "../planning/plan.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain, outputWidth, print, printJson } from "./output.ts";

export function planCommand(): Command {
  return new Command("plan")
    .description("train nothing: show who would train, at which rank, and the bytes each way")
    .argument("<config>", "YAML file, such as configs/quickstart.yaml")
    .option("--set <key=value>", "override a key of the config", (value: string, previous: string[]) => [...previous, value], [])
    .option("--measure", "time a few real steps at every rank, predict the time of a round, and propose slots per device", false)
    .option("--picture <file>", "write a picture of who would train on what, as SVG")
    .option("--json", "print the plan as JSON", false)
    .action(async (file: string, { set, json, measure, picture }: PlanCommandOptions) => {
      const interrupt = onInterrupt(complain);
      try {
        const loaded = await openConfig(file, { set });
        // Before minutes of preparation.
        if (picture !== undefined) await writing(picture, access(dirname(picture), constants.W_OK));
        if (!json) print("preparing the data and loading the model on one worker …");
        const planned = await withConfig(loaded, (config) => plan({ ...buildRun(config), measure, signal: interrupt.signal }));
        if (json) printJson(planned);
        else print(describePlan(visibleIn(planned), outputWidth()));
        if (picture !== undefined) {
          await writePicture(picture, planned);
          // Beside JSON, standard output holds nothing else.
          (json ? complain : print)(`picture: ${picture}`);
        }
      } finally {
        interrupt.dispose();
      }
    });
}

interface PlanCommandOptions {
  readonly set: readonly string[];
  readonly json: boolean;
  readonly measure: boolean;
  readonly picture?: string;
}

async function writePicture(file: string, { clients }: Plan): Promise<void> {
  const { partitionPicture } = await import("../report/partition.ts");
  const drawn = partitionPicture(clients, { isFile: true });
  if (drawn === undefined) {
    const message = "there is nothing to draw: examples have neither labels nor a column that the partition goes by";
    throw argumentError("--picture", message);
  }
  await writing(file, writeFile(file, drawn));
}

/** Tells what keeps a picture from being written. */
export async function writing(file: string, attempt: Promise<void>): Promise<void> {
  try {
    await attempt;
  } catch (cause) {
    const { code, message: reason } = cause as NodeJS.ErrnoException;
    const message = code === "ENOENT" ? `there is no folder ${dirname(file)}; make it first` : `cannot write ${file}: ${reason}`;
    throw argumentError("--picture", message);
  }
}

/** Of thousands; `--json` has all. */
const SHOWN_CLIENTS = 50;

export function describePlan(planned: Plan, width: number): string {
  const fits = planned.clients.reduce((sum, client) => sum + client.rounds.length, 0);
  const hidden = planned.clients.length - SHOWN_CLIENTS;
  return [
    renderTextTable(clientsTable(planned), width),
    ...(hidden > 0 ? [`and ${formatCount(hidden)} more clients, which --json lists too`] : []),
    `adapter: rank ${planned.tiers.at(-1)} on ${planned.adaptedModules} modules, ${formatCount(planned.adapterParameters)} parameters` +
      ` (+ ${formatCount(planned.denseParameters)} trained in full) beside ${formatCount(planned.baseParameters)} frozen; tiers ${planned.tiers.join(", ")}`,
    ...planned.adapted.map(
      ({ name, in: from, out, count }) => `  adapted:  ${name}, ${from} → ${out}${count > 1 ? `, ${formatCount(count)} of them` : ""}`,
    ),
    ...planned.leftOut.map(
      ({ name, kind, count, parameters }) =>
        `  left out: ${name} (${kind}${count > 1 ? `, ${formatCount(count)} of them` : ""}), ${formatCount(parameters)} parameters`,
    ),
    `run:     ${planned.rounds} rounds, ${fits} fits, ${formatBytes(planned.bytesDown)} down and ${formatBytes(planned.bytesUp)} up, in tensors`,
    `held out: ${planned.evalExamples} examples` +
      (planned.truncated > 0 ? `; ${planned.truncated} examples were cut to data.max_length` : ""),
    ...planned.remarks.map((remark) => `note: ${remark}`),
    ...(planned.time ? describeTime(planned.time, planned.rounds) : []),
    ...(planned.slots ? [describeSlots(planned.slots)] : []),
  ].join("\n");
}

function clientsTable({ clients }: Plan): Table {
  const hasMix = clients.some(({ mix }) => mix.length > 0);
  return {
    title: "",
    columns: ["client", "examples", "tokens", "r", "rounds", "down, a fit", "up", ...(hasMix ? ["trains on"] : [])],
    rows: clients.slice(0, SHOWN_CLIENTS).map((client) => {
      const { down, up } = client.bytesPerFit;
      const tokens = client.tokens > 0 ? formatCount(client.tokens) : "";
      const counts = [formatCount(client.size), tokens, String(client.r), String(client.rounds.length)];
      return [client.id, ...counts, formatBytes(down), formatBytes(up), ...(hasMix ? [describeMix(client)] : [])];
    }),
    prose: [7],
  };
}

function describeTime(time: NonNullable<Plan["time"]>, rounds: number): readonly string[] {
  const { workers, fitSecondsPerRound, evaluateSeconds, runSeconds } = time;
  return [
    "measured: one worker alone on this machine",
    ...time.tiers.map(({ r, stepSeconds, fitSeconds, peakMemoryBytes }) => {
      const memory = peakMemoryBytes === null ? "" : `, ${formatBytes(peakMemoryBytes)} at its peak`;
      return `  rank ${r}: ${stepSeconds.toFixed(3)} s a local step, ${fitSeconds.toFixed(2)} s a fit${memory}`;
    }),
    `  evaluation: ${(1000 * time.exampleSeconds).toFixed(1)} ms an example, at all ranks together` +
      (time.generateSeconds > 0 ? `; ${(1000 * time.generateSeconds).toFixed(0)} ms more where its answer is generated` : ""),
    `predicted: ${plural(workers, "worker")}, if they do not slow each other down: ${fitSecondsPerRound.toFixed(1)} s of fits a round, ` +
      `${evaluateSeconds.toFixed(1)} s an evaluation, ${formatSeconds(runSeconds)} for ${plural(rounds, "round")}, the start apart`,
  ];
}

function describeSlots({ slotsPerDevice, device, peakMemoryBytes }: Slots): string {
  const isCpu = device.type === "cpu";
  const memory = `${formatBytes(peakMemoryBytes)} a worker${isCpu ? " process" : ""} at its peak, ${formatBytes(device.memoryBytes)} in all`;
  const room = `room for ${plural(slotsPerDevice, "worker")} on ${isCpu ? "its cores" : device.name}`;
  return `memory:    ${memory}; ${room} (workers.slots_per_device: ${slotsPerDevice}, in place of workers.count)`;
}
