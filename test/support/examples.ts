import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { execa } from "execa";
import { packageRoot } from "../../src/installation.ts";
import { eventually } from "./patience.ts";

/**
 * Packs prelort, copies the examples into a folder, and installs what their package.json files ask for with that tarball: all at
 * once, as workspaces, since each alone would take as long.
 */
export async function installExamples(folder: string): Promise<void> {
  const pack = ["pack", "--ignore-scripts", "--json", "--pack-destination", folder];
  const { stdout } = await execa("npm", pack, { cwd: packageRoot() });
  const [tarball] = Object.values(JSON.parse(stdout) as Record<string, { filename: string }>);
  cpSync(path.join(packageRoot(), "test/examples"), folder, {
    recursive: true,
    filter: (name) => !/[/](node_modules|dist|runs)$/.test(name.slice(packageRoot().length)),
  });
  const names = readdirSync(folder, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  for (const name of names) {
    const file = path.join(folder, name, "package.json");
    const manifest = JSON.parse(readFileSync(file, "utf8")) as { dependencies: object };
    const dependencies = { ...manifest.dependencies, prelort: `file:../${tarball!.filename}` };
    writeFileSync(file, JSON.stringify({ ...manifest, dependencies }));
  }
  writeFileSync(path.join(folder, "package.json"), JSON.stringify({ private: true, type: "module", workspaces: names }));
  await execa("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund"], { cwd: folder });
}

/** A program of an example, in a process group of its own. */
export interface Program {
  readonly pid: number;
  /** All that it has printed. */
  readonly output: string;
  /** Resolves with the first line that matches. Rejects, with all output, if the program ends without it. */
  line(pattern: RegExp): Promise<RegExpExecArray>;
  /** Resolves once it and all that it started have ended. */
  ended(): Promise<{ readonly code: number | null; readonly signal: string | null }>;
  kill(signal: NodeJS.Signals): void;
}

export interface ProgramOptions {
  readonly folder: string;
  /** The name of a script in its package.json. */
  readonly script: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts what a script of package.json names, without npm between: signals reach it directly. Its temporary files go to `tmp`. */
export function startProgram({ folder, script, args = [], env = {} }: ProgramOptions): Program {
  const { scripts } = JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8")) as { scripts: Record<string, string> };
  const [, ...command] = (scripts[script] ?? "").split(" ");
  mkdirSync(path.join(folder, "tmp"), { recursive: true });
  const child = spawn(process.execPath, [...command, ...args], {
    cwd: folder,
    env: { ...process.env, TMPDIR: path.join(folder, "tmp"), RUNS_DIR: "runs", PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  return follow(child);
}

function follow(child: ChildProcess): Program {
  const pid = child.pid as number;
  const lines: string[] = [];
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream! }).on("line", (line) => lines.push(line));
  const closed = once(child, "close") as Promise<[number | null, string | null]>;
  let hasClosed = false;
  void closed.then(() => (hasClosed = true));
  return {
    pid,
    get output() {
      return lines.join("\n");
    },
    async line(pattern) {
      const found = await eventually(() => {
        const match = lines.map((line) => pattern.exec(line)).find((each) => each !== null);
        if (!match && !hasClosed) throw new Error(`no line like ${pattern} yet:\n${lines.join("\n")}`);
        return match;
      });
      if (found) return found;
      throw new Error(`it ended without a line like ${pattern}:\n${lines.join("\n")}`);
    },
    async ended() {
      const [code, signal] = await closed;
      await eventually(() => {
        if (groupExists(pid)) throw new Error(`processes of the group ${pid} are left`);
      });
      return { code, signal };
    },
    kill: (signal) => void (groupExists(pid) && process.kill(-pid, signal)),
  };
}

function groupExists(pid: number): boolean {
  try {
    return process.kill(-pid, 0);
  } catch {
    return false;
  }
}
