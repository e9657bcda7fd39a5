import { once } from "node:events";
import { spawn } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { afterAll, beforeAll } from "vitest";
import { python, root } from "./e2e.ts";

/** test/e2e/load_exports.py, which stays loaded for a file's tests. */
export interface ExportLoader {
  /** One of its requests; rejects with its traceback if it fails. */
  ask(...request: readonly unknown[]): Promise<unknown>;
  close(): Promise<void>;
}

export function exportLoader(): () => ExportLoader {
  let loader: ExportLoader | undefined;
  beforeAll(() => {
    loader = startLoader();
  });
  afterAll(() => loader?.close());
  return () => {
    if (loader) return loader;
    throw new Error("the loader starts before the first test");
  };
}

function startLoader(): ExportLoader {
  const env = { ...process.env, PYTHONPATH: path.join(root, "workers") };
  const child = spawn(python, [path.join(root, "test/e2e/load_exports.py")], { env });
  const closed = once(child, "close");
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let errors = "";
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  return {
    async ask(...request) {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      const { value, done } = await answers.next();
      if (!done) return JSON.parse(value);
      await closed;
      throw new Error(errors);
    },
    async close() {
      child.stdin.end();
      await closed;
    },
  };
}
