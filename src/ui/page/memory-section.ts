import { formatBytes, formatPercent, NOTHING } from "../../report/format.ts";
import type { WorkerMemory } from "../messages.ts";
import { fill, h, table } from "./dom.ts";

export interface MemorySection {
  readonly root: HTMLElement;
  update(workers: readonly WorkerMemory[]): void;
}

const COLUMNS = ["worker", "machine", "device", "memory of the device", "peak, last fit", "peak, all fits", "share of the device"];

/** Each worker's device and the memory that its fits took. */
export function memorySection(): MemorySection {
  const content = h("div");
  const note =
    "Peak of a fit: on a GPU what PyTorch reserved, on a CPU the resident memory of the worker's process. Workers may share a device.";
  const root = h(
    "section",
    { class: "panel wide", hidden: true },
    h("div", { class: "head" }, h("h2", {}, "Memory of workers")),
    content,
    h("p", { class: "quiet-text" }, note),
  );
  let shown: string | undefined;
  return {
    root,
    update(workers) {
      root.hidden = workers.every(({ deviceBytes, peak }) => deviceBytes === null && peak === null);
      const rows = workers.toSorted((a, b) => a.id.localeCompare(b.id, "en", { numeric: true })).map(rowOf);
      // A table that is refilled would lose the place that somebody reads.
      if (JSON.stringify(rows) === shown) return;
      shown = JSON.stringify(rows);
      fill(content, table("Memory of workers", COLUMNS, rows, "memory stacked"));
    },
  };
}

function rowOf({ id, host, device, deviceBytes, last, peak }: WorkerMemory): readonly string[] {
  const bytes = (value: number | undefined | null) => (value === undefined || value === null ? NOTHING : formatBytes(value));
  const highest = peak ? `${formatBytes(peak.bytes)} in round ${peak.round}` : NOTHING;
  const share = peak && deviceBytes ? formatPercent(peak.bytes / deviceBytes) : NOTHING;
  return [id, host ?? NOTHING, device ?? NOTHING, bytes(deviceBytes), bytes(last?.bytes), highest, share];
}
