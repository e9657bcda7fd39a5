import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe } from "vitest";
import { processLauncher } from "../../src/workers/process-launcher.ts";
import { launcherLaws } from "../support/launcher-laws.ts";
import { ssh } from "../support/ssh.ts";

/* The laws of workers on Ray are in test/cluster/launcher.test.ts. */

const local = async () => ({ launcher: (command: string) => processLauncher({ command }) });
launcherLaws("of processes over ipc", { over: "ipc", shortestLease: 2 }, local);
launcherLaws("of processes over tcp", { over: "tcp", shortestLease: 2 }, local);

launcherLaws("of processes that a command starts", { over: "tcp", shortestLease: 2 }, async () => {
  const through = ["/bin/sh", "-c", '"$@"; exit $?', "sh"];
  return { launcher: (command) => processLauncher({ command, through }) };
});

describe.skipIf(!ssh.isThere())("with sshd,", () => {
  launcherLaws("of processes that ssh starts", { over: "tcp", shortestLease: 2 }, async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "prelort-ssh-"));
    const { command: through, hosts, servers } = await ssh.start(folder);
    return {
      launcher: (command) => processLauncher({ command, through, hosts }),
      async close() {
        for (const server of servers) server.kill("SIGKILL");
        rmSync(folder, { recursive: true });
      },
    };
  });
});
