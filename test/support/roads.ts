import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { expect } from "vitest";
import { eventually } from "./patience.ts";

/** A way to start workers elsewhere, with real servers that listen on this machine alone. */
export interface Road {
  readonly name: string;
  isThere(): boolean;
  /** Starts its servers, which keep their files in this folder. */
  start(folder: string): Promise<StartedRoad>;
}

export interface StartedRoad {
  /** For `workers.command` and `workers.hosts`. */
  readonly command: readonly string[];
  readonly hosts?: readonly string[];
  readonly servers: readonly ChildProcess[];
  /** The jobs that it still knows, as text. */
  jobs?(): string;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address ? address.port : 0;
}

/** Resolves once it has said that it is `ready`, if it says so at all. */
export async function startServer(program: string, words: readonly string[], ready = ""): Promise<ChildProcess> {
  const server = spawn(program, words, { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  server.stderr?.on("data", (data: Buffer) => (log += data.toString()));
  await eventually(() => expect(log).toContain(ready));
  return server;
}
