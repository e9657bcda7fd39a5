import { expect, it } from "vitest";
import { jsonReporter } from "../../../../src/cli/reporters/json.ts";
import { recordingStream, story } from "./story.ts";

it("prints every event as a line of JSON in snake_case", () => {
  const stream = recordingStream();
  const reporter = jsonReporter({ stream });
  for (const event of story) reporter.event(event);
  reporter.close();
  const lines = stream.writes.join("").trimEnd().split("\n");
  const events = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(events.map(({ type }) => type)).toEqual(story.map(({ type }) => type));
  expect(events[10]).toMatchObject({ type: "round-end", metrics: { by_tier: [{ r: 1, accuracy: 0.25 }, { r: 4 }], bytes_up: 8 } });
});
