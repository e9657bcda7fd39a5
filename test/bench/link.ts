import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";

/** A network namespace that only a link of limited speed connects to this one: another host, as far as sockets can tell. */
export interface Link {
  readonly namespace: string;
  /** Of this side. */
  readonly address: string;
  /** The network device on this side. */
  readonly device: string;
  close(): void;
}

/** Needs root on Linux. `rate` is each way, in the words of `tc`. */
export function openLink(rate: string): Link {
  // Not in use elsewhere: 198.18.0.0/15 is set aside for benchmarks (RFC 2544).
  const [namespace, near, far] = [`prelort-${process.pid}`, `pl${process.pid}`, `pr${process.pid}`];
  const [address, other] = ["198.18.99.1", "198.18.99.2"];
  const ip = (words: string) => execFileSync("ip", words.split(" "), { stdio: "pipe" });
  const limit = (words: string) => execFileSync("tc", [...words.split(" "), ..."root tbf burst 1mb latency 100ms rate".split(" "), rate]);
  const close = () => execFileSync("ip", ["netns", "delete", namespace], { stdio: "ignore" });
  ip(`netns add ${namespace}`);
  try {
    ip(`link add ${near} type veth peer name ${far} netns ${namespace}`);
    ip(`address add ${address}/30 dev ${near}`);
    ip(`link set ${near} up`);
    ip(`-n ${namespace} address add ${other}/30 dev ${far}`);
    ip(`-n ${namespace} link set ${far} up`);
    ip(`-n ${namespace} link set lo up`);
    limit(`qdisc add dev ${near}`);
    limit(`-n ${namespace} qdisc add dev ${far}`);
  } catch (error) {
    close();
    throw error;
  }
  return { namespace, address, device: near, close };
}

/** Bytes that have gone to the other side, or come from it. */
export function countBytes(device: string, direction: "tx" | "rx"): number {
  return Number(readFileSync(`/sys/class/net/${device}/statistics/${direction}_bytes`, "utf8"));
}

/** Whether this process may make one. */
export function canOpenLink(): boolean {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return false;
  try {
    openLink("1gbit").close();
    return true;
  } catch {
    return false;
  }
}
