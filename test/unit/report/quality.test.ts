import { expect, it } from "vitest";
import { majorityShare } from "../../../src/report/quality.ts";

const clientOf = (label_counts: number[]) => ({ id: "c0", n: 1, r: 1, label_counts, mix: [], tokens: 0 });

it("the share of the most common label is taken over all clients", () => {
  expect(majorityShare({ labels: ["a", "b"], clients: [clientOf([1, 2]), clientOf([4, 1])] })).toBe(5 / 8);
  expect(majorityShare({ labels: [], clients: [clientOf([])] })).toBeUndefined();
});

it("200,000 labels do not overflow the search for the most common one", () => {
  const labels = Array.from({ length: 200_000 }, (_, label) => `label ${label}`);
  const counts = labels.map((_, label) => (label === 150_000 ? 200_001 : 1));
  expect(majorityShare({ labels, clients: [clientOf(counts)] })).toBe(200_001 / 400_000);
});
