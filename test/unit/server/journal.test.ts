import { expect, test } from "vitest";
import { askedIn, closeOf, commitsOf } from "../../../src/server/journal.ts";

test("an entry that is nested as deep as it goes is none", () => {
  const deep: unknown = JSON.parse(`{"type":"commit","round":${"[".repeat(20_000)}${"]".repeat(20_000)}}`);
  expect([commitsOf([deep]), [...askedIn([deep])], closeOf([deep], 0)]).toEqual([[], [], undefined]);
});
