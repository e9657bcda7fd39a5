import type { LiveEvent, WorkerMemory } from "./messages.ts";

/*
 * What is recorded of each worker's device and memory. Runs in the server, for the events until a page opens, and in the page, for
 * those that follow: nothing here may import from Node.
 */

/** Notes in `workers` what an event says, by worker. */
export function noteMemory(workers: Map<string, WorkerMemory>, event: LiveEvent): void {
  if (event.type === "worker-ready") {
    const { workerId: id, host, device, deviceBytes } = event;
    workers.set(id, { ...(workers.get(id) ?? unknown(id)), host, device, deviceBytes });
  } else if (event.type === "client-fit" && event.peakMemoryBytes !== null) {
    const { workerId: id, peakMemoryBytes: bytes, round } = event;
    const before = workers.get(id) ?? unknown(id);
    const isHighest = before.peak === null || bytes > before.peak.bytes;
    workers.set(id, { ...before, last: { bytes, round }, peak: isHighest ? { bytes, round } : before.peak });
  }
}

function unknown(id: string): WorkerMemory {
  return { id, host: null, device: null, deviceBytes: null, last: null, peak: null };
}
