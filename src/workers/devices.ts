import { execa } from "execa";
import { EnvironmentError } from "../errors.ts";

/**
 * Devices for workers: the configured ones or, for "auto", every CUDA device, else mps, else the CPU. Worker i gets device i and
 * host i, each modulo their number, so a device is listed once for each host.
 */
export async function resolveDevices({ devices, hosts = [""] }: Places): Promise<readonly string[]> {
  const all = devices === "auto" ? await findDevices() : devices;
  return all.flatMap((device) => hosts.map(() => device));
}

interface Places {
  readonly devices: "auto" | readonly string[];
  readonly hosts?: readonly string[] | undefined;
}

async function findDevices(): Promise<readonly string[]> {
  const installed = await countCudaDevices();
  const count = installed === 0 ? 0 : (visibleCudaDevices()?.length ?? installed);
  if (count > 0) return Array.from({ length: count }, (_, index) => `cuda:${index}`);
  return process.platform === "darwin" && process.arch === "arm64" ? ["mps"] : ["cpu"];
}

/** How many workers the config asks for, once the devices are known. */
export function countWorkers(
  devices: readonly string[],
  asked: { readonly count?: number | undefined; readonly slotsPerDevice?: number | undefined },
): number {
  return asked.count ?? devices.length * (asked.slotsPerDevice ?? 1);
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
