import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { Adapter } from "../../../src/adapter/adapter.ts";
import { createDeferred } from "../../../src/base/deferred.ts";
import type { ControllerMessage, ControllerMessageOf } from "../../../src/protocol/messages.ts";
import { createWorkerPool } from "../../../src/workers/pool.ts";
import { named, type Task, type TaskFailure } from "../../../src/workers/task.ts";
import { fitRequest, fitted, scriptedSettings, type ScriptedWorker } from "../../support/scripted-worker.ts";

/* Workers of another machine. What they need is sent to it once, and kept by one of them for all. */

type Place = NonNullable<ControllerMessageOf<"fit">["tensors"][number]["shared"]>;

/** A worker that keeps bytes in real files, and reads what others keep. The worker w<i> says that its pid is 100 + i. */
class Member {
  readonly peer: ScriptedWorker;
  /** Bytes that were sent to it to keep. */
  readonly kept: number[] = [];
  /** What it trained on: rows, and where they were. */
  readonly fits: { readonly rows: readonly number[]; readonly from: number | "chunks" }[] = [];
  /** Whether it can read the memory of that process. */
  canRead = (_pid: number): boolean => true;
  hasRoom = true;
  /** Called with each message before it is handled. */
  onMessage: (message: ControllerMessage) => unknown = () => {};
  readonly #files = new Map<number, number>();
  readonly #arriving = new Map<string, { readonly message: ControllerMessage; data: Uint8Array }>();

  constructor(peer: ScriptedWorker) {
    this.peer = peer;
    onTestFinished(() => this.#files.forEach((fd) => closeSync(fd)));
  }

  async play(): Promise<void> {
    this.peer.hello({ pid: 100 + this.peer.index, memory: "one machine" });
    while (true) {
      const message = await this.peer.next();
      await this.onMessage(message);
      if (message.type === "stop") return this.peer.exit({ exitCode: 0 });
      if (message.type === "keep" || message.type === "fit") this.#begin(message);
      else if (message.type === "chunk") this.#add(message);
      else if (message.type === "end") this.#end(message);
    }
  }

  #begin(message: ControllerMessageOf<"keep" | "fit">): void {
    const [place] = message.tensors.map(({ shared }) => shared);
    if (!place) this.#arriving.set(message.task_id, { message, data: new Uint8Array(0) });
    else if (message.type === "fit") this.#readLent(message, place);
  }

  #add({ task_id, data }: ControllerMessageOf<"chunk">): void {
    const part = this.#arriving.get(task_id);
    if (part) part.data = Buffer.concat([part.data, data]);
    this.peer.send({ type: "credit", bytes: data.length });
  }

  #end({ task_id, attempt }: ControllerMessageOf<"end">): void {
    const { message, data } = this.#arriving.get(task_id) ?? {};
    this.#arriving.delete(task_id);
    if (message?.type === "fit") return this.#fit(message, data ?? new Uint8Array(0), "chunks");
    if (message?.type !== "keep" || !data) return;
    if (!this.hasRoom) return this.#fail({ task_id, attempt }, "failed");
    if (data.length > 0) this.kept.push(data.length);
    const fd = this.#files.get(message.file) ?? newFile();
    this.#files.set(message.file, fd);
    ftruncateSync(fd, message.size);
    writeSync(fd, data, 0, data.length, message.offset);
    this.peer.send({ task_id, attempt, type: "kept", fd });
  }

  #readLent(fit: ControllerMessageOf<"fit">, { pid, fd, offset }: Place): void {
    if (pid === null || !this.canRead(pid)) return this.#fail(fit, "unshared");
    const bytes = new Uint8Array(fit.tensors[0]?.bytes ?? 0);
    expect(readSync(fd, bytes, 0, bytes.length, offset)).toBe(bytes.length);
    this.#fit(fit, bytes, pid);
  }

  #fit(fit: ControllerMessageOf<"fit">, bytes: Uint8Array, from: number | "chunks"): void {
    const rows = new Float32Array(Uint8Array.from(bytes).buffer);
    this.fits.push({ rows: [...rows], from });
    this.peer.answer(fit, fitted(fit), { r: fit.r, rows, dense: new Float32Array() });
  }

  #fail({ task_id, attempt }: { readonly task_id: string; readonly attempt: number }, kind: "unshared" | "failed"): void {
    this.peer.send({ task_id, attempt, type: "failure", error: { kind, message: "no memory", traceback: "", problems: [] } });
  }
}

function newFile(): number {
  const folder = mkdtempSync(join(tmpdir(), "kept-"));
  const fd = openSync(join(folder, "file"), "w+");
  rmSync(folder, { recursive: true });
  return fd;
}

/** Rows of one float each, of one buffer. */
const adapter = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8);

function fitTask(client: string, r: number, rows = adapter): Task<"fit"> {
  const request = fitRequest(client, r);
  const payload: Adapter = { r, rows: rows.subarray(0, r), dense: new Float32Array() };
  return { ...named({ kind: "fit", round: 1, clientId: client }), request, payload, expect: { rows: [r, 1] } };
}

async function startPool(prepare: (member: Member) => void = () => {}, count = 2) {
  const members = new Map<string, Member>();
  const settings = scriptedSettings((peer) => {
    const member = new Member(peer);
    members.set(peer.workerId, member);
    prepare(member);
    return member.play();
  });
  const failures: TaskFailure[] = [];
  const ready = createDeferred<void>();
  let awaited = count;
  const listener = { failure: (failure: TaskFailure) => failures.push(failure), ready: () => --awaited === 0 && ready.resolve() };
  const pool = createWorkerPool({ ...settings, devices: ["cpu"], count, retries: 0, listener });
  onTestFinished(() => pool.close({ now: true }));
  await pool.start();
  await ready.promise;
  const member = (id: string) => members.get(id) as Member;
  return { pool, failures, member };
}

test("a prefix that grows is sent to a machine once, and all of its workers read it there", async () => {
  const { pool, failures, member } = await startPool();
  await Promise.all([pool.run(fitTask("a", 2)), pool.run(fitTask("b", 2))]);
  await Promise.all([pool.run(fitTask("c", 8)), pool.run(fitTask("d", 1))]);
  const [keeper, other] = [member("w0"), member("w1")];
  expect([keeper.kept, other.kept]).toEqual([[8, 24], []]);
  const fits = [...keeper.fits, ...other.fits];
  expect(fits.map(({ rows }) => rows).toSorted((a, b) => a.length - b.length)).toEqual([[1], [1, 2], [1, 2], [...adapter]]);
  expect(fits.map(({ from }) => from)).toEqual([100, 100, 100, 100]);
  expect(failures).toEqual([]);
});

test("another adapter replaces the last one in its file once nobody reads that", async () => {
  const { pool, member } = await startPool();
  const next = Float32Array.of(9, 10, 11);
  await pool.run(fitTask("a", 8));
  await Promise.all([pool.run(fitTask("b", 3, next)), pool.run(fitTask("c", 2, next))]);
  expect(member("w0").kept).toEqual([32, 12]);
  const trained = [...member("w0").fits, ...member("w1").fits].map(({ rows }) => rows);
  expect(trained.toSorted((a, b) => a.length - b.length)).toEqual([[9, 10], [9, 10, 11], [...adapter]]);
});

test("when the worker that keeps is gone, another one keeps, and no client is to blame", async () => {
  const { pool, failures, member } = await startPool((kept) => {
    // It dies while it receives what it was to keep.
    if (kept.peer.workerId === "w0") kept.onMessage = ({ type }) => type === "keep" && kept.peer.exit({ signal: "SIGKILL" });
  });
  await Promise.all([pool.run(fitTask("a", 4)), pool.run(fitTask("b", 4))]).catch(() => {});
  await pool.run(fitTask("c", 4));
  const { fits, kept } = member("w1");
  expect(kept).toEqual([16]);
  expect(fits.length).toBeGreaterThan(0);
  expect(fits.filter(({ from }) => from === 101)).toEqual(fits);
  expect(failures.filter(({ workerId }) => workerId !== "w0")).toEqual([]);
});

test("a worker that cannot read another's memory is sent its tasks, and no attempt counts as failed", async () => {
  const { pool, failures, member } = await startPool((each) => {
    each.canRead = (pid) => pid === 100 + each.peer.index;
  });
  const replies = await Promise.all(["a", "b", "c", "d", "e", "f"].map((client) => pool.run(fitTask(client, 4))));
  expect(replies.map(({ attempt }) => attempt)).toEqual([1, 1, 1, 1, 1, 1]);
  expect(failures).toEqual([]);
  expect(new Set(member("w0").fits.map(({ from }) => from))).toEqual(new Set([100]));
  expect(new Set(member("w1").fits.map(({ from }) => from))).toEqual(new Set(["chunks"]));
});

test("a machine without room for an adapter is sent its tasks", async () => {
  const { pool, failures, member } = await startPool((each) => {
    each.hasRoom = false;
  });
  await Promise.all([pool.run(fitTask("a", 4)), pool.run(fitTask("b", 4))]);
  expect([...member("w0").fits, ...member("w1").fits].map(({ from }) => from)).toEqual(["chunks", "chunks"]);
  expect(failures).toEqual([]);
});

test("a task that is cancelled while its adapter is on the way is not sent, and its worker takes the next one", async () => {
  const asked = createDeferred<void>();
  const { pool, failures, member } = await startPool((each) => {
    if (each.peer.workerId !== "w0") return;
    let isFirst = true;
    each.onMessage = async ({ type }) => {
      if (type !== "end" || !isFirst) return;
      isFirst = false;
      await asked.promise;
    };
  }, 1);
  const controller = new AbortController();
  const cancelled = pool.run({ ...fitTask("a", 4), signal: controller.signal });
  controller.abort(new Error("no longer wanted"));
  await expect(cancelled).rejects.toThrow("no longer wanted");
  asked.resolve();
  await pool.run(fitTask("b", 2));
  expect(member("w0").fits.map(({ rows }) => rows)).toEqual([[1, 2]]);
  expect(failures.filter(({ taskId }) => taskId !== "round-1/fit/a")).toEqual([]);
});
