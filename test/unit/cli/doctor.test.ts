import { expect, test } from "vitest";
import { describe } from "../../../src/cli/doctor.ts";
import type { Finding } from "../../../src/setup/examine.ts";

const findings: readonly Finding[] = [
  { name: "Node", status: "ok", found: "20.20.2", expected: ">=20.19" },
  { name: "torch", status: "differs", found: "2.11.0", expected: "2.13.0" },
  {
    name: "prelort:wordnet-nouns",
    status: "absent",
    found: "not in /home/somebody/.cache/prelort/data/nouns.jsonl",
    expected: "for the quickstart",
    remedy: "npx prelort setup",
  },
  { name: "devices", status: "info", found: "cuda:0 \u001B[5mGPU, cpu" },
];

test("the lines of doctor fit the terminal without breaking a path", () => {
  expect(describe(findings, 64).split("\n")).toEqual([
    "ok       Node                   20.20.2",
    "differs  torch                  2.11.0; expected 2.13.0",
    "absent   prelort:wordnet-nouns",
    "         not in /home/somebody/.cache/prelort/data/nouns.jsonl",
    "         (for the quickstart): npx prelort setup",
    "info     devices                cuda:0 \\u001b[5mGPU, cpu",
  ]);
  expect(describe(findings, 200).split("\n")).toHaveLength(4);
});
