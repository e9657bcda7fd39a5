import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestProject } from "vitest/node";
import { environmentPython, packageRoot } from "../../src/installation.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Holds tiny-llama, tiny-bert, words.jsonl and topics.jsonl of test/fixtures/tiny.py. */
    tinyFolder: string;
  }
}

export default function setup(project: TestProject): () => void {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-tiny-"));
  execFileSync(environmentPython(), [path.join(packageRoot(), "test/fixtures/tiny.py"), folder], { stdio: "inherit" });
  project.provide("tinyFolder", folder);
  return () => rmSync(folder, { recursive: true, force: true });
}
