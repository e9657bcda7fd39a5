import { setTimeout } from "node:timers/promises";
import type { Rng } from "../../dist/base/rng.js";
import { type Hosts, NO_IMPAIRMENT } from "./hosts.ts";
import { LEASE_SECONDS, type Life, type Place, signal, untilGone } from "./life.ts";
import type { Seen, Strike } from "./strikes.ts";

/* Faults of a host or of its link. One host has one of them at a time; others may strike meanwhile. */

type OnHost = (host: number, hosts: Hosts, life: Life, rng: Rng) => Promise<Seen & { readonly over?: Promise<void> }>;

const troubled = new Map<number, Promise<void>>();

/** Resolves once every link is as it was. */
export const untilLinksAreWell = (): Promise<unknown> => Promise.all(troubled.values());

function onHost(name: string, weight: number, strike: OnHost): Strike {
  return {
    name,
    weight,
    async strike(life: Life, rng: Rng, { hosts }: Place) {
      const free = (hosts?.namespaces ?? []).map((_, host) => host).filter((host) => !troubled.has(host));
      const host = free[Math.floor(rng.next() * free.length)];
      if (hosts === undefined || host === undefined) return undefined;
      const { over, ...seen } = await strike(host, hosts, life, rng);
      const isOver = over?.finally(() => troubled.delete(host));
      if (isOver) troubled.set(host, isOver);
      return seen;
    },
  };
}

/** From now on for some seconds. */
async function cut(host: number, hosts: Hosts, seconds: number): Promise<void> {
  hosts.setLink(host, "down");
  await setTimeout(1000 * seconds);
  hosts.setLink(host, "up");
}

/** Workers that are on a host now, unless the controller has given them up. */
function workersOn(host: number, hosts: Hosts, life: Life): readonly string[] {
  const pids = new Set(hosts.processes(host));
  return life.workers().flatMap(({ pid, id }) => (pids.has(pid) && !life.hasFailed(id) ? [id] : []));
}

/** How long the controller takes to report the first of these workers as failed. */
async function firstFailure(workers: readonly string[], life: Life): Promise<number | undefined> {
  const at = Date.now();
  const seen = await Promise.race(workers.map((worker) => life.sawFailure(worker)));
  return seen === undefined ? undefined : seen - at;
}

const blinkLink = onHost("link down, shorter than the lease", 3, async (host, hosts, _, rng) => ({
  over: cut(host, hosts, LEASE_SECONDS * (0.1 + 0.5 * rng.next())),
}));

const cutLink = onHost("link down, longer than the lease", 2, async (host, hosts, life, rng) => {
  const workers = workersOn(host, hosts, life);
  const over = cut(host, hosts, LEASE_SECONDS * (1.2 + 0.8 * rng.next()));
  return { over, ...(workers.length > 0 && { latencyMs: firstFailure(workers, life) }) };
});

const impairLink = onHost("link delayed by 50 ms ± 20 ms, with 2 % loss", 3, async (host, hosts, _, rng) => {
  hosts.impair(host, { delay: 0.05, jitter: 0.02, loss: 0.02 });
  const over = setTimeout(1000 + 4000 * rng.next()).then(() => hosts.impair(host, NO_IMPAIRMENT));
  return { over };
});

const killHost = onHost("SIGKILL of all processes of a host", 2, async (host, hosts, life) => {
  const workers = workersOn(host, hosts, life);
  if (workers.length === 0) return {};
  const latencyMs = firstFailure(workers, life);
  for (const pid of hosts.processes(host)) {
    signal(pid, "SIGKILL");
  }
  return { latencyMs };
});

/** The latency is until the last worker of that controller is gone: those on the cut host only notice by their lease. */
const killControllerOfCutHost = onHost("SIGKILL of the controller while a link is down", 1, async (host, hosts, life, rng) => {
  const pids = life.workers().map(({ pid }) => pid);
  const over = cut(host, hosts, LEASE_SECONDS * (1.2 + 0.8 * rng.next()));
  const at = Date.now();
  life.kill();
  await life.ended;
  return { over, latencyMs: untilGone(pids, at) };
});

export const hostStrikes: readonly Strike[] = [blinkLink, cutLink, impairLink, killHost, killControllerOfCutHost];
