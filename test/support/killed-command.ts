import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { expect } from "vitest";
import type { RunEvent } from "../../src/index.ts";
import { cli, workersOf } from "./e2e.ts";
import { eventually } from "./patience.ts";

export interface Ended {
  readonly code: number | null;
  readonly events: readonly RunEvent[];
  readonly stderr: string;
  readonly pid: number | undefined;
}

/** Runs the command line, and kills it with SIGKILL at the first event for which `isEnd` holds. */
export async function command(args: readonly string[], isEnd: (event: RunEvent) => unknown = () => false): Promise<Ended> {
  const child = spawn(process.execPath, [cli, ...args, "--json"], { stdio: ["ignore", "pipe", "pipe"] });
  const events: RunEvent[] = [];
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (child.killed) return;
    const event = JSON.parse(line) as RunEvent;
    events.push(event);
    if (isEnd(event)) child.kill("SIGKILL");
  });
  const [code] = (await once(child, "close")) as [number | null];
  await eventually(() => expect(workersOf(child.pid ?? 0)).toEqual([]));
  return { code, events, stderr, pid: child.pid };
}
