import { expect, test } from "vitest";
import { ConfigError } from "../../../../src/errors.ts";
import { profileRanks } from "../../../../src/strategy/ranks/profile.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

const memoryGiB = { 16: 24, 8: 12, 4: 6, 1: 0.5 };

function rankOf(memory: number | undefined): number {
  const clients = clientsOf([{}, { profile: { memoryGiB: memory } }]);
  return profileRanks({ memoryGiB })(clients[1]!, selectionContext(clients));
}

test.each([
  [0.5, 1],
  [5.9, 1],
  [6, 4],
  [23.9, 8],
  [24, 16],
  [1000, 16],
])("a client with %d GiB of memory gets rank %d", (memory, rank) => expect(rankOf(memory)).toBe(rank));

test.each([
  [undefined, /data\.profiles\[1\]\.memoryGiB .*\bc1\b.*needed.*\bprofile\b/],
  [0.1, /data\.profiles\[1\]\.memoryGiB .*\bc1\b.*\b0\.5\b.*\b0\.1\b/],
])("a client memory of %s is an error that names the client and the key", (memory, message) => {
  expect(() => rankOf(memory)).toThrow(ConfigError);
  expect(() => rankOf(memory)).toThrow(message);
});

test.each([[{}], [{ 0: 1 }], [{ 1.5: 1 }], [{ 4: -1 }], [{ 4: Number.NaN }]])("an invalid map of ranks to GiB is refused: %j", (needs) => {
  const issues = [expect.objectContaining({ path: "profileRanks.memoryGiB" })];
  expect(() => profileRanks({ memoryGiB: needs })).toThrow(expect.objectContaining({ issues }));
});
