import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { complain, print, printJson } from "../../../src/cli/output.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

const commands = path.join(import.meta.dirname, "../../../src/cli");
test("only output.ts writes to the terminal, of all files of the command line", () => {
  const files = readdirSync(commands, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts") && file !== "output.ts");
  expect(files.length).toBeGreaterThan(20);
  const writes = /process\.std(out|err)\.write\(|console\.\w+\(/;
  const direct = files.filter((file) => writes.test(readFileSync(path.join(commands, file), "utf8")));
  expect(direct).toEqual([]);
});

test("control characters in results and errors are escaped", () => {
  const out = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const err = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  print("two\nlines\u001B[2J");
  printJson({ id: "\u009B\u001B" });
  complain("prelort: client \u202Eevil failed");
  expect(out.mock.calls).toEqual([["two\nlines\\u001b[2J\n"], ['{"id":"\\u009b\\u001b"}\n']]);
  expect(err.mock.calls).toEqual([["prelort: client \\u202eevil failed\n"]]);
});
