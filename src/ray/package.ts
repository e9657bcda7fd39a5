import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Zippable, zipSync } from "fflate";
import { workersFolder } from "../installation.ts";

/** Code that Ray copies to its nodes, named by its content: it is uploaded once. */
export interface CodePackage {
  /** Of the zip in the cluster's store, to which `gcs://` refers. */
  readonly name: string;
  readonly zip: Uint8Array;
}

/** What a cluster needs of prelort: `run.py` and `prelort_worker`. The same files give the same bytes. */
export async function workerPackage(folder = workersFolder()): Promise<CodePackage> {
  const found = await readdir(join(folder, "prelort_worker"), { recursive: true, withFileTypes: true });
  const modules = found.filter((entry) => entry.isFile() && entry.name.endsWith(".py")).map((entry) => join(entry.parentPath, entry.name));
  const names = ["run.py", ...modules.map((path) => path.slice(folder.length + 1))].toSorted();
  const files: Zippable = {};
  for (const name of names) files[name] = [await readFile(join(folder, name)), ENTRY];
  const zip = zipSync(files);
  return { name: `_ray_pkg_${createHash("sha256").update(zip).digest("hex").slice(0, 32)}.zip`, zip };
}

/** A zip cannot hold an earlier time. Ray unpacks with the permissions in it, so the file must be readable: rw-r--r--. */
const ENTRY = { mtime: "1980-01-01T12:00:00", os: 3, attrs: 0o100644 << 16, level: 9 } as const;
