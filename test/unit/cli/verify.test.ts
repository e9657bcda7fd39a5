import { expect, test } from "vitest";
import { concludeRounds, describeRound } from "../../../src/cli/verify.ts";
import { RunFailedError } from "../../../src/errors.ts";

const problem = "adapter as committed; its metrics are missing";

test("each round is printed with what it was recomputed from", () => {
  expect(describeRound({ round: 0, updates: 0, isAdapterVerified: true, isKept: true, problems: [] })).toMatch(/^start: .*\bseed\b/);
  expect(describeRound({ round: 1, updates: 3, isAdapterVerified: true, isKept: true, problems: [] })).toMatch(/^round 1: .*\b3 updates\b/);
  expect(describeRound({ round: 1, updates: null, isAdapterVerified: true, isKept: true, problems: [] })).toMatch(/^round 1: .*no updates/);
  expect(describeRound({ round: 4, updates: null, isAdapterVerified: true, isKept: true, problems: [problem] })).toBe(
    `round 4: ${problem}`,
  );
});

test("the last line counts the rounds that trained apart from the start", () => {
  const [start, one, two] = [0, 1, 2].map((round) => ({ round, updates: 1, isAdapterVerified: true, isKept: true, problems: [] })) as [
    never,
    never,
    never,
  ];
  const bare = { round: 2, updates: null, isAdapterVerified: true, isKept: true, problems: [] };
  expect(concludeRounds([start, one, two])).toMatch(/^the start and 2 of 2 rounds .*; .*the start and 2 of 2 rounds$/);
  expect(concludeRounds([start, one, bare])).toMatch(
    /^the start and 2 of 2 rounds .*; .*the start and 1 of 2 rounds; .*record_updates: true/,
  );
  const damaged = { ...bare, isAdapterVerified: false, problems: ["it is damaged"] };
  expect(() => concludeRounds([start, one, damaged])).toThrow(/^1 of 2 rounds /);
  expect(() => concludeRounds([start, one, damaged])).toThrow(RunFailedError);
});

test("rounds whose files keep_rounds removed are named, counted apart, and do not fail the verification", () => {
  const kept = { round: 2, updates: null, isAdapterVerified: true, isKept: true, problems: [] };
  const removed = (round: number) => ({ round, updates: null, isAdapterVerified: false, isKept: false, problems: [] });
  expect(describeRound(removed(1))).toBe("round 1: not kept (keep_rounds)");
  expect(concludeRounds([removed(0), removed(1), kept])).toBe("1 of 2 rounds is as committed; keep_rounds removed the others");
  expect(() => concludeRounds([removed(0), removed(1), { ...kept, isAdapterVerified: false, problems: ["it is damaged"] }])).toThrow(
    /^1 of 2 rounds /,
  );
});

test("a round that only lacks metrics fails verification, but its adapter is trusted", () => {
  const rounds = [0, 1].map((round) => ({
    round,
    updates: 1,
    isAdapterVerified: true,
    isKept: true,
    problems: round === 1 ? [problem] : [],
  }));
  expect(() => concludeRounds(rounds)).toThrow(/metrics of 1 of 1 round .*prelort resume/);
  expect(() => concludeRounds(rounds)).toThrow(RunFailedError);
});
