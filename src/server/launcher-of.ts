import type { RunConfig } from "../config/schema.ts";
import { environmentPython } from "../installation.ts";
import { rayLauncher } from "../ray/ray-launcher.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import { processLauncher } from "../workers/process-launcher.ts";
import { findPython, requirePython } from "../workers/python.ts";

/** What starts the workers that a config describes. Rejects with an EnvironmentError if this machine lacks what that needs. */
export async function launcherOf({
  name,
  workers: { cluster, command: through, hosts, python: asked },
}: RunConfig): Promise<WorkerLauncher> {
  if (cluster) return rayLauncher({ ...cluster, python: asked, run: name, isTrusted: cluster.trustedNetwork });
  // What a command starts may be on a machine where only the path is the same.
  if (through) return processLauncher({ command: asked ?? environmentPython(), through, hosts });
  const python = findPython(asked);
  await requirePython(python);
  return processLauncher({ command: python });
}
