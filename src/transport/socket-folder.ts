import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EnvironmentError } from "../errors.ts";

/** sockaddr_un holds 104 bytes on macOS and 108 on Linux. */
const MAX_SOCKET_PATH = 100;
const NAME = "prelort-XXXXXX/socket";

/** A private folder for a socket. */
export interface SocketFolder {
  /** Where the socket goes; at most 100 bytes. */
  readonly socketPath: string;
  /** Removes the folder. Safe to call twice. */
  remove(): Promise<void>;
}

/**
 * Creates a folder that only this user may enter (mode 0700) and that is removed when this process ends, even by SIGKILL: a
 * janitor process in its own session waits for the end of a pipe that only we hold open. It then also kills the workers
 * that were started to connect there: one that was suspended during its start cannot notice our end itself.
 */
export async function createSocketFolder(temporary: string = tmpdir()): Promise<SocketFolder> {
  const parent = [temporary, "/tmp"].find((folder) => Buffer.byteLength(join(folder, NAME)) <= MAX_SOCKET_PATH) ?? "/tmp";
  const folder = await mkdtemp(join(parent, "prelort-")).catch((cause: unknown) => {
    const remedy = `set TMPDIR to a writable folder with a path of at most ${MAX_SOCKET_PATH - NAME.length - 1} bytes`;
    throw new EnvironmentError(`no folder for the workers' socket could be created in ${parent}`, remedy, { cause });
  });
  const dismiss = await startJanitor(folder);
  let removal: Promise<void> | undefined;
  return {
    socketPath: join(folder, "socket"),
    remove: () => (removal ??= dismiss().then(() => rm(folder, { recursive: true, force: true }))),
  };
}

/** A line on its input means that all is well. Without /proc, workers watch for the end of their own input. */
const JANITOR = `
  read -r _ || for file in $(grep -als -- "$0/socket" /proc/[0-9]*/cmdline); do
    process=\${file#/proc/}
    kill -9 "\${process%/cmdline}"
  done
  rm -rf -- "$0"`;

/** Resolves, once the janitor runs, with a function that dismisses it and waits for its end. */
async function startJanitor(folder: string): Promise<() => Promise<void>> {
  const janitor = spawn("/bin/sh", ["-c", JANITOR, folder], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  const exited = once(janitor, "exit");
  await once(janitor, "spawn").catch(async (cause: unknown) => {
    await rm(folder, { recursive: true, force: true });
    throw new EnvironmentError("/bin/sh could not be started", "install a POSIX shell at /bin/sh", { cause });
  });
  // It must not keep this process alive.
  janitor.unref();
  const pipe = janitor.stdin as typeof janitor.stdin & { unref(): void };
  pipe.unref();
  return async () => {
    janitor.ref();
    janitor.stdin.end("\n");
    await exited;
  };
}
