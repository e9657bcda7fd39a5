import { expect, it } from "vitest";
import { jsonReporter } from "../../../../src/cli/reporters/json.ts";
import { recordingStream, story } from "./story.ts";

it("prints every event of the TypeScript API as one line of JSON with a version", () => {
  const stream = recordingStream();
  const reporter = jsonReporter({ stream });
  for (const event of story) reporter.event(event);
  reporter.close();
  const lines = stream.writes.join("").trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(story.map((event) => ({ version: 1, ...event })));
});
