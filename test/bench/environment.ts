import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { execa } from "execa";
import { environmentPython, packageRoot } from "../../dist/installation.js";

const requirements = readFileSync(path.join(packageRoot(), "test", "bench", "requirements.txt"), "utf8");

export const flowerVersion = /^flwr\S*==(\S+)$/m.exec(requirements)?.[1] ?? "";

/** Python of a separate environment with Flower; created if missing or made from other requirements. */
export async function flowerPython(signal: AbortSignal): Promise<string> {
  const folder = path.join(packageRoot(), ".bench", "flower");
  const python = path.join(folder, "bin", "python");
  const stamp = path.join(folder, "requirements.txt");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === requirements) return python;
  process.stdout.write("installing Flower into an environment of its own (.bench/flower)\n");
  rmSync(folder, { recursive: true, force: true });
  const options = { cancelSignal: signal, stderr: "inherit", timeout: 900_000 } as const;
  await execa(environmentPython(), ["-m", "venv", folder], options);
  const list = path.join(packageRoot(), "test", "bench", "requirements.txt");
  await execa(python, ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "-r", list], options);
  writeFileSync(stamp, requirements);
  return python;
}
