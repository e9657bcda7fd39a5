import path from "node:path";
import process from "node:process";
import { Command, InvalidArgumentError } from "commander";
import { isFile, isThere } from "../base/read-file.ts";
import { argumentError } from "../errors.ts";
import { serveUi, type Ui } from "../ui/serve-ui.ts";
import { complain, print } from "./output.ts";

export interface UiAddress {
  readonly port?: number;
  readonly host?: string;
}

export function uiCommand(): Command {
  const command = new Command("ui")
    .description("show a folder's runs in a browser, live: one run, or several over one another")
    .argument("[runs-dir]", "folder of runs, or a run's own", "runs")
    .option("--allow-control", "let the page stop runs of this machine and resume them", false);
  return withAddress(command).action(
    async (folder: string, { allowControl, ...address }: UiAddress & { readonly allowControl: boolean }) => {
      const root = path.resolve(folder);
      if (!isThere(root)) throw argumentError("runs-dir", `there is no folder ${root}; give the folder that holds your runs`);
      if (isFile(root)) throw argumentError("runs-dir", `${root} is a file; give the folder that holds your runs`);
      const ended = untilStopped();
      const ui = await openUi({ folder, allowControl, ...address });
      print(`runs:      ${ui.link()}`);
      complain("The link holds the page's secret: whoever has it sees these runs. Ctrl-C ends the page.");
      await ended;
      await ui.close();
    },
  );
}

/** The options that say where the page is served. */
export function withAddress(command: Command): Command {
  return command
    .option("--port <number>", "port of the page (default: a free one)", parsePort)
    .option("--host <address>", "address that the page is served on (default: 127.0.0.1, which only this machine reaches)");
}

/** Serves the page, and warns if other machines reach it. */
export async function openUi(options: Parameters<typeof serveUi>[0]): Promise<Ui> {
  const ui = await serveUi(options);
  const { host = "127.0.0.1" } = options;
  if (!/^(localhost|::1|127(\.\d+){3})$/.test(host)) {
    complain(`warning: other machines reach this page, and what it sends is not encrypted; ssh -L to its default address is safer`);
  }
  return ui;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new InvalidArgumentError("It must be a whole number from 0 to 65535; 0 is a free one.");
}

/** Resolves at the first signal; the second ends this process at once. */
function untilStopped(): Promise<void> {
  return new Promise((resolve) => {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => resolve());
  });
}
