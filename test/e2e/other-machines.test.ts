import { type ChildProcess, execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { federate, type FederateOptions } from "../../src/index.ts";
import { python, temporaryFolder, tinyRun } from "../support/e2e.ts";
import { eventually } from "../support/patience.ts";
import { startTraining } from "../support/training-process.ts";
import type { Road } from "../support/roads.ts";
import { slurm } from "../support/slurm.ts";
import { ssh } from "../support/ssh.ts";

/* Workers that a command starts elsewhere, through real servers; each is skipped where its programs are missing. */

const runs = temporaryFolder();
const servers: ChildProcess[] = [];
let jobsOf: (() => string) | undefined;
afterEach(async () => {
  await eventually(() => expect(jobsOf?.() ?? "").toBe(""));
  for (const server of servers.splice(0)) server.kill("SIGKILL");
});

async function startRoad(road: Road): Promise<NonNullable<FederateOptions["workers"]>> {
  const { command, hosts, jobs, servers: started } = await road.start(mkdtempSync(path.join(runs(), `${road.name}-`)));
  servers.push(...started);
  jobsOf = jobs;
  return { transport: "tcp", command: [...command], ...(hosts && { hosts: [...hosts] }), devices: ["cpu"], python };
}

/** The bytes of the same run with a worker of this machine alone. */
let local: Promise<string> | undefined;
const localSha256 = () => (local ??= federate({ ...tinyRun(runs(), "local"), workers: { count: 1 } }).result.then(({ sha256 }) => sha256));

describe.each([ssh, slurm])("over $name", (road) => {
  test.skipIf(!road.isThere())("workers give the same bytes as local ones, and none is left", async () => {
    const run = federate({ ...tinyRun(runs(), `over-${road.name}`), workers: { ...(await startRoad(road)), count: 2 } });
    const pids: number[] = [];
    for await (const event of run) if (event.type === "worker-ready") pids.push(event.pid);
    const { sha256 } = await run.result;
    expect(sha256).toBe(await localSha256());
    expect(pids.length).toBeGreaterThan(0);
    for (const pid of pids) await eventually(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"));
  });

  test.skipIf(!road.isThere())("when the command is killed, its worker ends and another takes its place, to the same bytes", async () => {
    const run = federate({ ...tinyRun(runs(), `killed-${road.name}`), workers: await startRoad(road) });
    const ready: { readonly workerId: string; readonly pid: number }[] = [];
    let isKilled = false;
    for await (const event of run) {
      if (event.type === "worker-ready") ready.push(event);
      if (event.type !== "client-fit" || isKilled) continue;
      isKilled = true;
      // The local end: nothing reaches the other machine but the end of its input.
      execFileSync("pkill", ["-KILL", "-P", `${process.pid}`, "-f", "--", "--worker-id w0 "]);
    }
    const { sha256 } = await run.result;
    expect(sha256).toBe(await localSha256());
    expect(ready.map(({ workerId }) => workerId)).toEqual(["w0", "w0.1"]);
    for (const { pid } of ready) await eventually(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"));
  });

  test.skipIf(!road.isThere())("when the controller is killed, its workers end", async () => {
    const { controller, output } = await startTraining(runs(), `orphaned-${road.name}`, await startRoad(road), (started) =>
      servers.push(started),
    );
    const pid = Number(/"type":"worker-ready"[^\n]*?"pid":(\d+)/.exec(output)?.[1]);
    process.kill(pid, 0);
    controller.kill("SIGKILL");
    await eventually(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"));
  });
});
