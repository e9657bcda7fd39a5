import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { cpus, hostname } from "node:os";
import path from "node:path";
import { expect } from "vitest";
import { eventually } from "./patience.ts";
import { freePort, type Road, startServer } from "./roads.ts";

const PROGRAMS = ["/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/srun"];

/** A real Slurm of one node (Debian's munge, slurmctld, slurmd and slurm-client), with a key of its own; it needs root. */
export const slurm: Road = {
  name: "slurm",
  isThere: () => process.getuid?.() === 0 && PROGRAMS.every((program) => existsSync(program)),
  async start(folder) {
    const [file, node] = [(name: string) => path.join(folder, name), hostname().split(".")[0] ?? ""];
    writeFileSync(file("key"), randomBytes(1024), { mode: 0o400 });
    const [controllerPort, nodePort] = [await freePort(), await freePort()];
    for (const name of ["state", "spool"]) mkdirSync(file(name));
    const config = [
      "ClusterName=prelort",
      `SlurmctldHost=${node}(127.0.0.1)`,
      "SlurmUser=root",
      `AuthInfo=socket=${file("munge")}`,
      `SlurmctldPort=${controllerPort}`,
      `SlurmdPort=${nodePort}`,
      `StateSaveLocation=${file("state")}`,
      `SlurmdSpoolDir=${file("spool")}`,
      `SlurmctldPidFile=${file("slurmctld.pid")}`,
      `SlurmdPidFile=${file("slurmd.pid")}`,
      "ProctrackType=proctrack/linuxproc",
      "TaskPlugin=task/none",
      "SelectType=select/cons_tres",
      "SelectTypeParameters=CR_CPU",
      "ReturnToService=2",
      `NodeName=${node} NodeAddr=127.0.0.1 CPUs=${cpus().length}`,
      `PartitionName=all Nodes=${node} Default=YES`,
    ];
    writeFileSync(file("slurm.conf"), `${config.join("\n")}\n`);
    const munge = ["--force", "--foreground", `--socket=${file("munge")}`, `--key-file=${file("key")}`];
    const others = ["pid", "log", "seed"].map((name) => `--${name}-file=${file(`munge.${name}`)}`);
    const servers = [await startServer("/usr/sbin/munged", [...munge, ...others])];
    await eventually(() => expect(existsSync(file("munge"))).toBe(true));
    for (const program of ["slurmctld", "slurmd"])
      servers.push(await startServer(`/usr/sbin/${program}`, ["-D", "-f", file("slurm.conf")]));
    const env = { ...process.env, SLURM_CONF: file("slurm.conf") };
    await eventually(() => expect(execFileSync("/usr/bin/sinfo", ["--noheader"], { env, encoding: "utf8" })).toContain("idle"));
    const jobs = () => execFileSync("/usr/bin/squeue", ["--noheader"], { env, encoding: "utf8" });
    return { jobs, command: ["env", `SLURM_CONF=${file("slurm.conf")}`, "srun", "-n1", "--input=0", "--quiet"], servers };
  },
};
