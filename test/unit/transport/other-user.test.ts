import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { zeromqTransport } from "../../../src/transport/zeromq.ts";

/* Becoming another user takes root; without it that one is skipped. */

const script = fileURLToPath(new URL("../../fixtures/other-user.mjs", import.meta.url));
const nobody = "65534";

async function tryAt(kind: "ipc" | "tcp", ...user: string[]): Promise<unknown> {
  const transport = await zeromqTransport({ kind });
  onTestFinished(() => transport.close());
  const { endpoint } = transport.open("w0");
  return JSON.parse(execFileSync(process.execPath, [script, endpoint, ...user], { encoding: "utf8" }));
}

test("we ourselves can list the ipc folder and connect", async () => {
  expect(await tryAt("ipc")).toMatchObject({ list: "done", connect: "done" });
});

test("we ourselves are refused over tcp without keys", async () => {
  expect(await tryAt("tcp")).toEqual({ connect: "refused" });
});

describe.runIf(process.getuid?.() === 0)("another user of the machine", () => {
  test("can neither list the ipc folder, nor read the socket, nor connect to it", async () => {
    expect(await tryAt("ipc", nobody)).toEqual({ list: "EACCES", read: "EACCES", connect: "EACCES" });
  });

  test("is refused over tcp", async () => {
    expect(await tryAt("tcp", nobody)).toEqual({ connect: "refused" });
  });
});
