import { access, constants, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { Command } from "commander";
import { buildRun } from "../config/build.ts";
import { openConfig, withConfig } from "../config/load.ts";
import { argumentError } from "../errors.ts";
import { formatBytes, formatCount, formatSeconds, plural } from "../report/format.ts";
import { holdingsOf } from "../report/holdings.ts";
import { describeMix } from "../report/mix.ts";
import type { Table } from "../report/tables.ts";
import { median, tails } from "../report/tails.ts";
import { renderTextTable } from "../report/text-table.ts";
import { visibleIn } from "../report/visible.ts";
import type { Slots } from "../planning/measure.ts";
import type { Machines } from "../planning/machines.ts";
import { type Plan, plan, type PlannedClient } from "../planning/plan.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain, outputWidth, print, printJson, tellOnce } from "./output.ts";

export function planCommand(): Command {
  return new Command("plan")
    .description("show which clients would train, at which rank, and how many bytes would travel; trains nothing")
    .argument("<config>", "YAML file, such as configs/quickstart.yaml")
    .option("--set <key=value>", "override a key of the config", (value: string, previous: string[]) => [...previous, value], [])
    .option("--measure", "time a few real steps at every rank, predict the time of a round, and propose slots per device", false)
    .option("--picture <file>", "write an SVG of the examples that each client would train on")
    .option("--json", "print the plan as JSON", false)
    .action(async (file: string, { set, json, measure, picture }: PlanCommandOptions) => {
      const interrupt = onInterrupt(complain, "a plan keeps nothing but what was prepared");
      try {
        const loaded = await openConfig(file, { set });
        // Fails before minutes of preparation.
        if (picture !== undefined) await writing(picture, access(dirname(picture), constants.W_OK));
        if (!json) print("preparing the data and loading the model on one worker …");
        const planned = await withConfig(loaded, (config) =>
          plan({ ...buildRun(config), measure, signal: interrupt.signal, onWaiting: tellOnce(complain) }),
        );
        if (json) printJson(planned);
        else print(describePlan(planned, outputWidth()));
        if (picture !== undefined) {
          await writePicture(picture, planned);
          // Standard output holds nothing beside the JSON.
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
  const drawn = partitionPicture(holdingsOf(clients), { isFile: true });
  if (drawn === undefined) {
    const message = "nothing to draw: the examples have neither labels nor a column that data.partition uses";
    throw argumentError("--picture", message);
  }
  await writing(file, writeFile(file, drawn));
}

/** Turns a failure to write the picture into an error about `--picture`. */
export async function writing(file: string, attempt: Promise<void>): Promise<void> {
  try {
    await attempt;
  } catch (cause) {
    const { code, message: reason } = cause as NodeJS.ErrnoException;
    const message = code === "ENOENT" ? `folder ${dirname(file)} does not exist; create it first` : `cannot write ${file}: ${reason}`;
    throw argumentError("--picture", message);
  }
}

/** Rows up to which all clients are listed; beyond, only the largest and the smallest of them. `--json` lists all. */
const [ALL_CLIENTS, TAIL] = [50, 10];

export function describePlan({ clients, ...others }: Plan, width: number): string {
  // The table itself escapes what clients are called.
  const planned = visibleIn(others);
  const fits = clients.reduce((sum, client) => sum + client.rounds.length, 0);
  return [
    renderTextTable(clientsTable(clients), width),
    ...(clients.length > ALL_CLIENTS
      ? [`the ${TAIL} largest and the ${TAIL} smallest of ${formatCount(clients.length)} clients; --json lists all`]
      : []),
    `adapter: rank ${planned.tiers.at(-1)} on ${planned.adaptedModules} modules, ${formatCount(planned.adapterParameters)} parameters` +
      ` (+ ${formatCount(planned.denseParameters)} fully trained), ${formatCount(planned.baseParameters)} frozen; tiers ${planned.tiers.join(", ")}`,
    ...planned.adapted.map(
      ({ name, in: from, out, count }) => `  adapted:  ${name}, ${from} → ${out}${count > 1 ? ` (× ${formatCount(count)})` : ""}`,
    ),
    ...planned.leftOut.map(
      ({ name, kind, count, parameters }) =>
        `  left out: ${name} (${kind}${count > 1 ? ` × ${formatCount(count)}` : ""}), ${formatCount(parameters)} parameters`,
    ),
    `run:      ${planned.rounds} rounds${planned.mayStopEarly ? " if stop_when does not end it earlier" : ""}, ${fits} fits; tensors: ${formatBytes(planned.bytesDown)} down, ${formatBytes(planned.bytesUp)} up`,
    describeTraining(planned.training, clients),
    describeDisk(planned.disk),
    ...(planned.machines ? describeMachines(planned.machines, planned.bytesUp) : []),
    `held out: ${planned.evalExamples} examples` +
      (planned.truncated > 0 ? `; ${planned.truncated} examples truncated to data.max_length` : ""),
    ...planned.remarks.map((remark) => `note: ${remark}`),
    ...(planned.time ? describeTime(planned.time, planned.rounds) : []),
    ...(planned.slots ? [describeSlots(planned.slots)] : []),
  ].join("\n");
}

/** Such as `fits: 12 steps of 16 examples with adamw; lr 0.001 in round 1, 0.003 in round 3, 0.0004 in round 6; lr of B 16 times that`. */
function describeTraining(
  { optimizer, serverOptimizer, batchSize, warmupSteps, rates }: Plan["training"],
  clients: Plan["clients"],
): string {
  const steps = clients.map((client) => client.steps);
  const [least, most] = [smallest(steps), -smallest(steps.map((count) => -count))];
  const fits = `${least === most ? plural(most, "step") : `${formatCount(least)} to ${plural(most, "step")}`} of ${plural(batchSize, "example")} with ${optimizer}`;
  const all = rates.map(({ lr }) => lr);
  const peak = all.indexOf(-smallest(all.map((lr) => -lr)));
  const told = smallest(all) === all[peak] ? [peak] : [...new Set([0, peak, all.length - 1])];
  const schedule = told.map((index) => `${rate(all[index])}${told.length > 1 ? ` in round ${index + 1}` : ""}`).join(", ");
  const { lr = 1, lrB = 1, headLr = 1 } = rates[peak] ?? {};
  const others = [
    ...(lrB === lr ? [] : [`of B ${rate(lrB / lr)} times that`]),
    ...(headLr === lr ? [] : [`of modules trained in full ${rate(headLr / lr)} times that`]),
  ];
  const warmup = warmupSteps === 0 ? "" : `; after ${plural(warmupSteps, "step")} of warmup in each fit`;
  const server = serverOptimizer === null ? "" : `; the server's optimizer: ${serverOptimizer}`;
  return `training: ${fits}; lr ${[schedule, ...others].join("; ")}${warmup}${server}`;
}

const rate = (value = 0) => String(Number(value.toPrecision(3)));
/** Not by spreading: there may be a million clients. */
const smallest = (values: readonly number[]) => values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);

function describeDisk({ rounds, roundBytes, updateBytes, stateBytes, adapterBytes }: Plan["disk"]): string {
  const kept = `${plural(rounds, "round")} at once (keep_rounds) ${formatBytes(roundBytes)}`;
  const states = stateBytes > 0 ? `, optimizers' states (client_state) ${formatBytes(stateBytes)}` : "";
  const others = `updates ${formatBytes(updateBytes)}${states}, adapters ${formatBytes(adapterBytes)}`;
  return `disk:     at most ${formatBytes(roundBytes + updateBytes + stateBytes + adapterBytes)} of tensors: ${kept}, ${others}`;
}

function describeMachines({ hosts, bytesDown, cluster }: Machines, bytesUp: number): readonly string[] {
  const down = bytesDown === null ? "" : `at most ${formatBytes(bytesDown)} down to each, since it gets an adapter once; `;
  const lines = [
    `machines: ${hosts?.join(", ") ?? (cluster ? "those that Ray chooses" : "those that workers.command reaches")}; ${down}${formatBytes(bytesUp)} up from all of them`,
  ];
  if (!cluster) return lines;
  const { address, resources, asked, nodes, workers } = cluster;
  const each = Object.entries(resources).map(([name, amount]) => `${amount} ${name}`);
  const count = asked.min === asked.max ? `${asked.max}` : `${asked.min} to ${asked.max}`;
  return [
    ...lines,
    `cluster:  asks Ray at ${address} for ${count} workers with ${each.join(" and ")} each; ` +
      `${plural(nodes, "node")} there, with room for ${workers} if nobody else uses them`,
  ];
}

function clientsTable(clients: Plan["clients"]): Table {
  const isCut = clients.length > ALL_CLIENTS;
  const sizes = clients.map(({ size }) => size);
  const shown = isCut ? tails(sizes, TAIL).map((index) => clients[index] as PlannedClient) : clients;
  const hasSteps = clients.some(({ steps }) => steps !== clients[0]?.steps);
  const hasMix = shown.some(({ mix }) => mix.length > 0);
  const sum = (of: (client: PlannedClient) => number) => formatCount(clients.reduce((all, client) => all + of(client), 0));
  const totals = ["all", sum(({ size }) => size), sum(({ tokens }) => tokens), "", sum(({ rounds }) => rounds.length)];
  const middle = ["median", formatCount(median(sizes))];
  const columns = [
    "client",
    "examples",
    "tokens",
    "r",
    "rounds",
    ...(hasSteps ? ["steps"] : []),
    "down per fit",
    "up",
    ...(hasMix ? ["trains on"] : []),
  ];
  const rows = shown.map((client) => {
    const { down, up } = client.bytesPerFit;
    const tokens = client.tokens > 0 ? formatCount(client.tokens) : "";
    const counts = [
      formatCount(client.size),
      tokens,
      String(client.r),
      String(client.rounds.length),
      ...(hasSteps ? [formatCount(client.steps)] : []),
    ];
    return [client.id, ...counts, formatBytes(down), formatBytes(up), ...(hasMix ? [describeMix(client)] : [])];
  });
  return { title: "", columns, rows: isCut ? [totals, middle, ...rows] : rows, prose: [hasSteps ? 8 : 7] };
}

function describeTime(time: NonNullable<Plan["time"]>, rounds: number): readonly string[] {
  const { workers, fitSecondsPerRound, evaluateSeconds, runSeconds } = time;
  return [
    "measured with one worker alone on this machine:",
    ...time.tiers.map(({ r, stepSeconds, fitSeconds, peakMemoryBytes }) => {
      const memory = peakMemoryBytes === null ? "" : `, peak memory ${formatBytes(peakMemoryBytes)}`;
      return `  rank ${r}: ${stepSeconds.toFixed(3)} s per local step, ${fitSeconds.toFixed(2)} s per fit${memory}`;
    }),
    `  evaluation: ${(1000 * time.exampleSeconds).toFixed(1)} ms per example, over all ranks` +
      (time.generateSeconds > 0 ? `; ${(1000 * time.generateSeconds).toFixed(0)} ms more if an answer is generated` : ""),
    `predicted for ${plural(workers, "worker")}, if they do not slow each other down: ${fitSecondsPerRound.toFixed(1)} s of fits per round, ` +
      `${evaluateSeconds.toFixed(1)} s per evaluation, ${formatSeconds(runSeconds)} for ${plural(rounds, "round")}, excluding start-up`,
  ];
}

function describeSlots({ slotsPerDevice, device, peakMemoryBytes }: Slots): string {
  const isCpu = device.type === "cpu";
  const memory = `peak ${formatBytes(peakMemoryBytes)} per worker${isCpu ? " process" : ""}, ${formatBytes(device.memoryBytes)} in total`;
  const room = `room for ${plural(slotsPerDevice, "worker")} on ${isCpu ? "its cores" : device.name}`;
  return `memory:   ${memory}; ${room} (workers.slots_per_device: ${slotsPerDevice} instead of workers.count)`;
}
