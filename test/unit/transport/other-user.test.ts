import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { zeromqTransport } from "../../../src/transport/zeromq.ts";

/* Only root can become another user; otherwise those tests are skipped. */

const script = fileURLToPath(new URL("../../fixtures/other-user.mjs", import.meta.url));
const nobody = "65534";

async function attempt(kind: "ipc" | "tcp", ...user: string[]): Promise<unknown> {
  const transport = await zeromqTransport({ kind });
  onTestFinished(() => transport.close());
  const { endpoint } = transport.open("w0");
  return JSON.parse(execFileSync(process.execPath, [script, endpoint, ...user], { encoding: "utf8" }));
}

test("the same user can list the ipc folder and connect", async () => {
  expect(await attempt("ipc")).toMatchObject({ list: "done", connect: "done" });
});

test("the same user is refused over tcp without keys", async () => {
  expect(await attempt("tcp")).toEqual({ connect: "refused" });
});

describe.runIf(process.getuid?.() === 0)("another user of the machine", () => {
  test("can neither list the ipc folder, nor read the socket, nor connect to it", async () => {
    expect(await attempt("ipc", nobody)).toEqual({ list: "EACCES", read: "EACCES", connect: "EACCES" });
  });

  test("is refused over tcp", async () => {
    expect(await attempt("tcp", nobody)).toEqual({ connect: "refused" });
  });
});
