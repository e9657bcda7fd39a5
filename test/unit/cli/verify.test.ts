import { expect, test } from "vitest";
import { concludeRounds, describeRound } from "../../../src/cli/verify.ts";

const problem = "adapter as committed; its metrics are missing";

test("each round is told with what it was recomputed from", () => {
  expect(describeRound({ round: 0, updates: 0, isAdapterVerified: true, problems: [] })).toBe(
    "start: as committed; recomputed from the seed, same bytes",
  );
  expect(describeRound({ round: 1, updates: 3, isAdapterVerified: true, problems: [] })).toBe(
    "round 1: as committed; recomputed from 3 updates, same bytes",
  );
  expect(describeRound({ round: 4, updates: null, isAdapterVerified: true, problems: [problem] })).toBe(`round 4: ${problem}`);
});

test("the last line counts the rounds that trained, and the start beside them", () => {
  const [start, one, two] = [0, 1, 2].map((round) => ({ round, updates: 1, isAdapterVerified: true, problems: [] })) as [
    never,
    never,
    never,
  ];
  const bare = { round: 2, updates: null, isAdapterVerified: true, problems: [] };
  expect(concludeRounds([start, one, two])).toBe(
    "the start and 2 of 2 rounds are as committed; recomputed to the same bytes: the start and 2 of 2 rounds",
  );
  expect(concludeRounds([start, one, bare])).toBe(
    "the start and 2 of 2 rounds are as committed; recomputed to the same bytes: the start and 1 of 2 rounds; " +
      "with record_updates: true the others could be recomputed too",
  );
  const damaged = { ...bare, isAdapterVerified: false, problems: ["it is damaged"] };
  expect(() => concludeRounds([start, one, damaged])).toThrow(/^1 of 2 rounds cannot be trusted$/);
});

test("a round that only lacks metrics can be trusted, but is not as committed", () => {
  const rounds = [0, 1].map((round) => ({ round, updates: 1, isAdapterVerified: true, problems: round === 1 ? [problem] : [] }));
  expect(() => concludeRounds(rounds)).toThrow(/^all adapters are as committed, but the metrics of 1 of 1 round are not; prelort resume/);
});
