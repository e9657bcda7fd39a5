import path from "node:path";
import type { TrackerName } from "../config/track-section.ts";
import { packageRoot, trackerFolder, workersFolder } from "../installation.ts";
import type { SetupContext } from "./context.ts";
import { provideEnvironment, readRequirements } from "./environment.ts";

/** Creates or updates the Python environment of a tracker, which holds its client alone. */
export async function setUpTracker(name: TrackerName, context: SetupContext): Promise<void> {
  const folder = trackerFolder(name);
  const constraints = path.join(workersFolder(), "trackers", `${name}.txt`);
  await provideEnvironment({
    ...context,
    folder,
    extras: [name],
    inputs: [path.join(packageRoot(), "pyproject.toml"), constraints],
    constraints,
    what: `environment of ${name}`,
    packages: `the Python client of ${name}`,
    command: `npx prelort setup --track ${name}`,
    requirements: (python) => readRequirements(python, "extra", [name]),
  });
}
