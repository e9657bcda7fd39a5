import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { environmentPython } from "../../dist/installation.js";

/** Machines as far as sockets and shared memory can tell: network namespaces, each behind a link of its own. */
export interface Hosts {
  /** Of this process, where they reach it. */
  readonly address: string;
  readonly namespaces: readonly string[];
  /** Cuts a host off, or connects it again. */
  setLink(host: number, state: "up" | "down"): void;
  /** Delays and loses packets both ways, from now on. */
  impair(host: number, impairment: Impairment): void;
  /** Processes on a host. */
  processes(host: number): readonly number[];
  /** Kills what is left on them and removes them. */
  close(): Promise<void>;
}

export interface Impairment {
  /** Seconds. Packets may overtake each other. */
  readonly delay: number;
  readonly jitter: number;
  /** Fraction of the packets. */
  readonly loss: number;
}

export const NO_IMPAIRMENT: Impairment = { delay: 0, jitter: 0, loss: 0 };

/** Why this machine cannot have hosts; undefined if it can. */
export function whyNoHosts(): string | undefined {
  const isRoot = process.platform === "linux" && process.getuid?.() === 0;
  if (!isRoot) return "hosts are network namespaces, which need root on Linux";
  return existsSync("/dev/net/tun") ? undefined : "links between hosts need TUN devices, and there is no /dev/net/tun";
}

/** Needs root on Linux. They are gone a moment after this process, even if it is killed. */
export async function openHosts(count: number): Promise<Hosts> {
  const script = path.join(import.meta.dirname, "..", "..", "test", "chaos", "links.py");
  // Ctrl-C must not reach it: it cleans up once this process is gone.
  const links = spawn(environmentPython(), [script, `ch${process.pid}`, `${count}`], {
    stdio: ["pipe", "pipe", "inherit"],
    detached: true,
  });
  const closed = once(links, "close");
  const [line] = await Promise.race([once(createInterface({ input: links.stdout }), "line"), closed.then(() => [undefined])]);
  if (typeof line !== "string") throw new Error("the hosts could not be made");
  const { address, namespaces } = JSON.parse(line) as Pick<Hosts, "address" | "namespaces">;
  return {
    address,
    namespaces,
    setLink: (host, state) => void ip("-n", namespaces[host] ?? "", "link", "set", "eth0", state),
    impair: (host, impairment) => void links.stdin.write(`${JSON.stringify({ host, ...impairment })}\n`),
    processes: (host) =>
      ip("netns", "pids", namespaces[host] ?? "")
        .split("\n")
        .filter(Boolean)
        .map(Number),
    async close() {
      links.stdin.end();
      await closed;
    },
  };
}

/** Namespaces and network devices that are left of hosts which were closed. */
export function leftOfHosts({ namespaces: [first = ""] }: Hosts): readonly string[] {
  const name = first.replace(/-\d+$/, "");
  const listing = `${ip("netns", "list")}\n${ip("-brief", "link")}`;
  return listing.split("\n").filter((line) => line.startsWith(name));
}

function ip(...words: readonly string[]): string {
  return execFileSync("ip", words, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}
