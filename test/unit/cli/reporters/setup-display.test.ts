import { expect, it } from "vitest";
import { setupDisplay } from "../../../../src/cli/reporters/setup-display.ts";
import { screen } from "./screen.ts";
import { recordingStream } from "./story.ts";

it("a terminal shows the current step on one line below the finished steps, and removes it at the end", async () => {
  const terminal = screen(40, 10);
  let time = 0;
  const display = setupDisplay({ stream: terminal.stdout, now: () => time });
  display.say("making it");
  time = 61_000;
  display.progress("Downloading a_package_with_a_rather_long_name.whl (700 MB)");
  expect(await terminal.lines()).toEqual(["making it", "  1 min 1 s  Downloading a_package_wit…"]);
  display.progress("Installing\u001B[2J");
  expect(await terminal.lines()).toEqual(["making it", "  1 min 1 s  Installing\\u001b[2J"]);
  display.say("made");
  display.close();
  display.close();
  expect(await terminal.lines()).toEqual(["making it", "made"]);
});

it("a pipe gets a line of progress at most every ten seconds", () => {
  const stream = recordingStream();
  let time = 0;
  const display = setupDisplay({ stream, now: () => time });
  display.say("making it");
  for (time = 0; time <= 25_000; time += 1000) display.progress(`step ${time / 1000}`);
  display.close();
  expect(stream.writes).toEqual(["making it\n", "  10 s  step 10\n", "  20 s  step 20\n"]);
});
