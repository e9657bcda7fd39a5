import { describe, expect, it } from "vitest";
import { settingIssues } from "../../../src/compare/setting.ts";

describe("methods that share a setting", () => {
  it("have no issues if their shared parts are equal, however deep", () => {
    const parts = () => ({ rounds: 2, data: { clients: { count: 3 } } });
    expect(settingIssues(["one", "two"], [parts(), parts()])).toEqual([]);
  });

  it("have an issue for every part in which one differs from the first", () => {
    const shared = [
      { rounds: 2, data: { clients: 3 }, "lora.r": 4 },
      { rounds: 2, data: { clients: 3 }, "lora.r": 8 },
      { rounds: 5, data: { clients: 4 }, "lora.r": 4 },
    ];
    const issues = settingIssues(["one", "two", "three"], shared);
    expect(issues).toEqual([
      { path: "methods[1].set", message: expect.stringMatching(/"two".*"one".*lora\.r/) },
      { path: "methods[2].set", message: expect.stringMatching(/"three".*"one".*rounds/) },
      { path: "methods[2].set", message: expect.stringMatching(/"three".*"one".*data/) },
    ]);
  });
});
