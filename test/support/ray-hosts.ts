import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import process from "node:process";

/** Machines of a cluster on this one: each has an address, and what it runs sees nothing of the others' processes. */
export interface Hosts {
  /** Of this process, where the machines reach it. */
  readonly address: string;
  host(index: number): Host;
  close(): void;
}

export interface Host {
  readonly address: string;
  /** Its host name, where it has one of its own. */
  readonly name?: string;
  /** The command that runs a program there. All that it leaves ends with it. `folder` is the same path on every host, with a content of its own. */
  command(program: string, words: readonly string[], folder: string): readonly string[];
  /** Cuts the link to all others, or restores it. */
  setLink?(state: "up" | "down"): void;
}

let made = 0;

/** Namespaces of their own for each host, with links between them. Needs root on Linux. */
export function namespaceHosts(count: number): Hosts {
  // 198.18.0.0/15 is set aside for benchmarks (RFC 2544), so it is not in use elsewhere.
  // The kernel removes a namespace, and the link into it, some time after it was deleted.
  const [subnet, own] = [`198.18.${(process.pid + made) % 90}`, `${process.pid}.${made++}`];
  const [bridge, names] = [`prb${own}`, Array.from({ length: count }, (_, index) => `prelort-${own}-${index}`)];
  const ip = (words: string) => execFileSync("ip", words.split(" "), { stdio: "pipe" });
  const close = () => {
    for (const name of names) spawnSync("ip", ["netns", "delete", name]);
    spawnSync("ip", ["link", "delete", bridge]);
  };
  try {
    ip(`link add ${bridge} type bridge`);
    ip(`address add ${subnet}.1/24 dev ${bridge}`);
    ip(`link set ${bridge} up`);
    for (const [index, name] of names.entries()) {
      ip(`netns add ${name}`);
      ip(`link add prv${own}-${index} type veth peer name eth0 netns ${name}`);
      ip(`link set prv${own}-${index} master ${bridge} up`);
      ip(`-n ${name} address add ${subnet}.${index + 2}/24 dev eth0`);
      for (const link of ["eth0", "lo"]) ip(`-n ${name} link set ${link} up`);
    }
  } catch (error) {
    close();
    throw error;
  }
  const host = (index: number): Host => ({
    address: `${subnet}.${index + 2}`,
    name: `prelort-host-${index}`,
    command(program, words, folder) {
      const own = `${folder}-${index}`;
      mkdirSync(own, { recursive: true });
      const script = `mount --bind "$0" "$1"; hostname "$2"; shift 2; exec "$@"`;
      const spaces = ["--uts", "--pid", "--fork", "--kill-child", "--mount-proc"];
      const inside = ["unshare", ...spaces, "sh", "-c", script, own, folder, `prelort-host-${index}`, program, ...words];
      return ["ip", "netns", "exec", names[index] ?? "", ...inside];
    },
    setLink: (state) => void ip(`-n ${names[index]} link set eth0 ${state}`),
  });
  return { address: `${subnet}.1`, host, close };
}

export function canMakeNamespaceHosts(): boolean {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return false;
  try {
    namespaceHosts(1).close();
    return spawnSync("unshare", ["--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "hostname", "x"]).status === 0;
  } catch {
    return false;
  }
}

/** Addresses of the loopback device. Ray turns 127.0.0.1 into the address of the host's network, but no other. */
export const loopbackHosts: Hosts = {
  address: "127.0.0.1",
  host: (index) => ({ address: `127.0.0.${2 * index + 2}`, command: (program, words) => [program, ...words] }),
  close() {},
};
