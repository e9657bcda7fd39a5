import path from "node:path";
import { execa } from "execa";
import { z } from "zod";
import { environmentFolder, environmentPython, packageRoot } from "../../dist/installation.js";

/** What PyTorch says: peers/gpu.py. */
const seen = z.object({
  torch: z.string(),
  /** The CUDA it was built for. */
  cuda: z.string().nullable(),
  devices: z.array(z.string()),
  packages: z.array(z.string()),
});
type Seen = z.output<typeof seen>;

export interface Gpu {
  /** What a GPU experiment lacks here; undefined if a card can be used. */
  readonly lacks: string | undefined;
  readonly machine: Pick<Seen, "torch" | "cuda" | "devices">;
  /** Which packages a worker can import. */
  readonly packages: readonly string[];
}

/** Examines the cards of this machine, and whether the workers' PyTorch can use them. */
export async function examineGpu(): Promise<Gpu> {
  const { stdout } = await execa(environmentPython(), [path.join(packageRoot(), "test/bench/peers/gpu.py")]);
  const { packages, ...machine } = seen.parse(JSON.parse(stdout));
  return { lacks: whatLacks(machine, await listCards()), machine, packages };
}

/** The cards that the driver lists, whatever PyTorch sees. */
async function listCards(): Promise<string[]> {
  const { stdout, exitCode } = await execa("nvidia-smi", ["--query-gpu=name", "--format=csv,noheader"], { reject: false, timeout: 20_000 });
  return exitCode === 0 ? stdout.split("\n").filter((line) => line.trim() !== "") : [];
}

export function whatLacks(
  { torch, cuda, devices }: Pick<Seen, "torch" | "cuda" | "devices">,
  cards: readonly string[],
): string | undefined {
  if (devices.length > 0) return undefined;
  if (cards.length === 0) return "a CUDA device";
  const card = `a PyTorch that can use the ${cards[0]} of this machine: torch ${torch}`;
  return cuda === null
    ? `${card} is a build without CUDA. Remove ${environmentFolder()}, and run this again where pip gets PyTorch from PyPI: ` +
        "without PIP_EXTRA_INDEX_URL or another setting of pip that names PyTorch's index of CPU builds"
    : `${card}, built for CUDA ${cuda}, sees no device. Its driver may be older than CUDA ${cuda} needs (nvidia-smi names both), ` +
        "or CUDA_VISIBLE_DEVICES hides the card";
}
