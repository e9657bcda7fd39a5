import { expect, test } from "vitest";
import { attackController } from "../../fuzz/campaign.ts";

test("a short attack on the controller's code finds no crash and no hang, and most of it comes past the first check", async () => {
  const { layers } = await attackController(7, 15_000);
  expect(Object.keys(layers)).toEqual(["frames", "conversations", "files"]);
  for (const { inputs, pastFirstCheck, accepted, refusals, crashes, hangs } of Object.values(layers)) {
    expect([crashes, hangs]).toEqual([[], []]);
    expect(inputs).toBeGreaterThanOrEqual(1500);
    expect(pastFirstCheck / inputs).toBeGreaterThan(0.4);
    expect(accepted).toBeGreaterThan(0);
    expect(Object.keys(refusals).length).toBeGreaterThan(10);
  }
});
