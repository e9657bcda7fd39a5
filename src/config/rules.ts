import type { z } from "zod";
import { bestRules } from "./best-rules.ts";
import { clientRules } from "./client-rules.ts";
import { dataRules } from "./data-rules.ts";
import { fitRules } from "./fit-rules.ts";
import { policyRules } from "./policy-rules.ts";
import type { Checked, Rule } from "./rule.ts";
import type { Path } from "./tree.ts";
import { workerRules } from "./worker-rules.ts";

const rules: readonly Rule[] = [...policyRules, ...fitRules, ...dataRules, ...workerRules, ...clientRules, ...bestRules];

/** zod skips refinements after any issue; with `when`, rules run on the valid parts, so that all issues are reported together. */
export function withRules<S extends z.ZodType<Checked>>(schema: S): S {
  return schema.superRefine(
    (config, context) => {
      const wrong = context.issues.filter(({ code }) => code !== "unrecognized_keys").map(({ path }) => (path ?? []) as Path);
      const report = (path: Path, message: string) => context.addIssue({ code: "custom", path: [...path], message });
      for (const { reads, check } of rules) {
        if (!reads.some((key) => wrong.some((path) => overlap(key.split("."), path)))) check(config, report);
      }
    },
    { when: () => true },
  );
}

/** Whether the paths are equal or one leads to the other. */
function overlap(a: Path, b: Path): boolean {
  return a.slice(0, b.length).every((key, index) => key === b[index]);
}
