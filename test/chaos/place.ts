import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout } from "node:timers/promises";
import { faultLog, LEASE_SECONDS, type Place, processes, runDirectory, sharingLog, temporary } from "./life.ts";

/* What is found in the folders of a run. */

/** Hash of everything that must be reproduced: every round's global adapter, and the metrics. */
export function bytesOf(place: Place): string {
  const hash = createHash("sha256");
  for (let round = 0; round <= place.rounds; round++) {
    hash.update(readFileSync(path.join(runDirectory(place), "rounds", `${round}`, "global.safetensors")));
  }
  return hash.update(readFileSync(path.join(runDirectory(place), "metrics.jsonl"))).digest("hex");
}

export function committed(place: Place): number {
  const folder = path.join(runDirectory(place), "rounds");
  return existsSync(folder) ? readdirSync(folder).length : 0;
}

/**
 * Processes, temporary files and partial files that a finished run left behind, after some time to disappear; on hosts as long as
 * the lease allows, and some seconds for a loaded machine.
 */
export async function leftoversOf(place: Place): Promise<readonly string[]> {
  const ended = Date.now();
  while (Date.now() - ended < (place.hosts ? 1000 * (LEASE_SECONDS + 2 + 10) : 300_000)) {
    if (findLeftovers(place).length === 0) return [];
    await setTimeout(100);
  }
  return findLeftovers(place);
}

function findLeftovers(place: Place): readonly string[] {
  const files = readdirSync(runDirectory(place), { recursive: true, encoding: "utf8" });
  return [
    ...processes(place.root).map(({ args }) => `process ${args}`),
    ...(place.hosts?.namespaces ?? []).flatMap(
      (name, host) => place.hosts?.processes(host).map((pid) => `process ${pid} on ${name}`) ?? [],
    ),
    ...readdirSync(temporary(place)).map((name) => `temporary ${name}`),
    ...files.filter((file) => /\.partial$|(^|\/)lock|^updates\/./.test(file)),
  ];
}

const mounted = new Set<string>();

/** Mounts a small disk for a run, if this machine allows it. */
export function mountDisk({ runs }: Place): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=48m", "chaos", runs], { stdio: "ignore" });
    mounted.add(runs);
    return true;
  } catch {
    return false;
  }
}

export function unmountDisks(): void {
  for (const folder of mounted) execFileSync("umount", ["-l", folder]);
}

/** The faults that workers injected themselves, by kind. */
export function inflicted(place: Place): readonly string[] {
  return linesOf(faultLog(place)).map((line) => (JSON.parse(line) as { readonly fault: string }).fault);
}

/** How many workers have read what another worker of their host keeps. */
export function readersOfShared(place: Place): number {
  return linesOf(sharingLog(place)).length;
}

function linesOf(file: string): readonly string[] {
  return existsSync(file) ? readFileSync(file, "utf8").trimEnd().split("\n") : [];
}
