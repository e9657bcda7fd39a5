import { access } from "node:fs/promises";
import { expect, test } from "vitest";
import { writing } from "../../../src/cli/plan.ts";

test("a picture for a folder that is not there is refused with what to do", async () => {
  await expect(writing("nodir/picture.svg", access("nodir"))).rejects.toThrow(
    "1 problem:\n  --picture  there is no folder nodir; make it first",
  );
});
