import { execa } from "execa";
import { EnvironmentError } from "../errors.ts";

/**
 * Devices for workers: the configured ones or, for "auto", every CUDA device, else mps, else the CPU. Worker i gets device i and
 * host i, each modulo their number, so a device is listed once for each host.
 */
export async function resolveDevices({ devices, hosts = [""], cluster }: Places): Promise<readonly string[]> {
  if (cluster) return [clusterDevice(cluster.resources)];
  const all = devices === "auto" ? await findDevices() : devices;
  return all.flatMap((device) => hosts.map(() => device));
}

interface Places {
  readonly devices: "auto" | readonly string[];
  readonly hosts?: readonly string[] | undefined;
  readonly cluster?: { readonly resources: Readonly<Record<string, number>> } | undefined;
}

/** The device of a worker for which a cluster reserves these resources: it sees no others. */
export function clusterDevice({ GPU = 0 }: Readonly<Record<string, number>>): string {
  return GPU > 0 ? "cuda:0" : "cpu";
}

async function findDevices(): Promise<readonly string[]> {
  const installed = await countCudaDevices();
  const count = installed === 0 ? 0 : (visibleCudaDevices()?.length ?? installed);
  if (count > 0) return Array.from({ length: count }, (_, index) => `cuda:${index}`);
  return process.platform === "darwin" && process.arch === "arm64" ? ["mps"] : ["cpu"];
}

interface Numbers {
  readonly count?: number | undefined;
  readonly slotsPerDevice?: number | undefined;
  readonly cluster?: { readonly count: number | { readonly min: number; readonly max: number } } | undefined;
}

/** How many workers the config asks for, once the devices are known. */
export function countWorkers(devices: readonly string[], { count, slotsPerDevice = 1, cluster }: Numbers): number {
  const most = typeof cluster?.count === "object" ? cluster.count.max : cluster?.count;
  return count ?? most ?? devices.length * slotsPerDevice;
}

/** How many workers must be ready before work begins. */
export function leastWorkers({ count = Infinity, cluster }: Numbers): number {
  return Math.min(count, typeof cluster?.count === "object" ? cluster.count.min : 1);
}

/** How a worker process gets its device: torch's name for it there, and the variable that hides the others. */
export function assignDevice(device: string): { readonly device: string; readonly env: Readonly<Record<string, string>> } {
  const index = /^cuda:(\d+)$/.exec(device)?.[1];
  if (index === undefined) return { device, env: { CUDA_VISIBLE_DEVICES: "" } };
  const visible = visibleCudaDevices();
  const name = visible ? visible[Number(index)] : index;
  if (name === undefined) {
    const problem = `workers.devices names ${device}, but CUDA_VISIBLE_DEVICES=${visible?.join(",")} leaves ${visible?.length} devices`;
    throw new EnvironmentError(problem, "change workers.devices or CUDA_VISIBLE_DEVICES");
  }
  // nvidia-smi counts in PCI bus order, which is not CUDA's default.
  return { device: "cuda", env: { CUDA_VISIBLE_DEVICES: name, CUDA_DEVICE_ORDER: process.env["CUDA_DEVICE_ORDER"] ?? "PCI_BUS_ID" } };
}

/** The devices that this process itself may use; `cuda:N` counts within them. */
function visibleCudaDevices(): readonly string[] | undefined {
  return process.env["CUDA_VISIBLE_DEVICES"]
    ?.split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "" && name !== "-1");
}

async function countCudaDevices(): Promise<number> {
  const { stdout, exitCode } = await execa("nvidia-smi", ["--query-gpu=index", "--format=csv,noheader"], {
    reject: false,
    timeout: 20_000,
  });
  return exitCode === 0 ? stdout.split("\n").filter((line) => /^\d+$/.test(line.trim())).length : 0;
}
