import { expect, test } from "vitest";
import type { LiveEvent, WorkerMemory } from "../../../src/ui/messages.ts";
import { noteMemory } from "../../../src/ui/worker-memory.ts";

const ready = (workerId: string, host: string): LiveEvent => ({
  type: "worker-ready",
  at: 0,
  workerId,
  host,
  device: "NVIDIA H200 (cuda)",
  deviceBytes: 1000,
});
const fit = (workerId: string, round: number, peakMemoryBytes: number | null): LiveEvent => ({
  type: "client-fit",
  at: 0,
  round,
  clientId: "c0",
  workerId,
  seconds: 1,
  peakMemoryBytes,
});

function noted(...events: readonly LiveEvent[]): readonly WorkerMemory[] {
  const workers = new Map<string, WorkerMemory>();
  for (const event of events) noteMemory(workers, event);
  return [...workers.values()];
}

test("a worker has its device, the memory of its last fit and the highest of all with the first round that reached it", () => {
  expect(noted(ready("w0", "a"), fit("w0", 1, 300), fit("w0", 2, 400), fit("w0", 3, 400), fit("w0", 4, 100))).toEqual([
    {
      id: "w0",
      host: "a",
      device: "NVIDIA H200 (cuda)",
      deviceBytes: 1000,
      last: { bytes: 100, round: 4 },
      peak: { bytes: 400, round: 2 },
    },
  ]);
});

test("a worker that starts again elsewhere keeps what its fits took", () => {
  const [worker] = noted(ready("w0", "a"), fit("w0", 1, 300), ready("w0", "b"));
  expect(worker).toMatchObject({ host: "b", peak: { bytes: 300, round: 1 } });
});

test("a fit whose memory is unknown says nothing of its worker, and one without a device is listed", () => {
  expect(noted(fit("w0", 1, null), fit("w1", 1, 5))).toEqual([
    { id: "w1", host: null, device: null, deviceBytes: null, last: { bytes: 5, round: 1 }, peak: { bytes: 5, round: 1 } },
  ]);
});
