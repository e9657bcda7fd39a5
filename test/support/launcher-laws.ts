import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { SESSION } from "../../src/protocol/limits.ts";
import { isPublicKey } from "../../src/transport/keys.ts";
import { tcpTransport } from "../../src/transport/tcp.ts";
import { type LaunchedWorker, type LauncherInUse, type Subject, useLauncher, WAIT, WAIT_WITH_CHILD } from "./launched-workers.ts";
import { eventually } from "./patience.ts";

export interface Traits {
  readonly over: "ipc" | "tcp";
  /** The shortest one, in seconds, within which all that it starts over tcp can join. */
  readonly shortestLease: number;
  /** For a launcher whose workers may have to wait for a place: how many of them have one at a time. */
  readonly places?: number;
}

type Use = (options?: { readonly lease?: number; readonly python?: string }) => Promise<LauncherInUse>;

/** What every launcher keeps, as src/workers/launch.ts has it, with real workers. `start` is called once. */
export function launcherLaws(name: string, { over, shortestLease, places }: Traits, start: () => Promise<Subject>): void {
  describe(`the launcher ${name}`, () => {
    let subject: Subject;
    const inUse: LauncherInUse[] = [];
    const use: Use = async (options) => {
      const launcher = await useLauncher(subject, { over, lease: 3600, ...options });
      inUse.push(launcher);
      return launcher;
    };
    beforeAll(async () => {
      subject = await start();
    });
    afterEach(async () => {
      for (const launcher of inUse.splice(0)) await launcher.close();
    });
    afterAll(() => subject?.close?.());

    lawsOfLaunching(use);
    lawsOfKilling(use);
    describe.skipIf(over !== "tcp")("over tcp", () => lawsOverTcp(use, shortestLease));
    describe.skipIf(places === undefined)("whose workers may wait for a place", () => lawsOfPlaces(use, places ?? 0));
  });
}

function lawsOfLaunching(use: Use): void {
  test("starts workers that join under their ids with the threads they were given, do tasks and stop", async () => {
    const { launch } = await use();
    const workers = [1, 2].map((threads) => launch(undefined, { threads }));
    const hellos = await Promise.all(workers.map(({ heard }) => heard("hello")));
    expect(hellos.map(({ threads }) => threads)).toEqual([1, 2]);
    expect(workers.map(({ pid }, index) => pid ?? hellos[index]?.pid)).toEqual(hellos.map(({ pid }) => pid));
    for (const { send, heard, exited, processes } of workers) {
      // No task needs less; what it asks for is not there.
      const basis = { round: 1, adapter: "", resolution: 1 };
      await send({ ...SESSION, task_id: "sum", attempt: 1, traceparent: null, type: "collect", basis, dtype: "F64" });
      expect(await heard("failure")).toMatchObject({ task_id: "sum", error: { kind: "failed" } });
      await send({ ...SESSION, type: "stop" });
      expect(await exited).toMatchObject({ exitCode: 0 });
      expect(processes()).toEqual([]);
    }
  });

  test("tells how a worker ended once it is gone, and has its output, but not its key, in its log", async () => {
    const { launch } = await use();
    const { exited, processes, log } = launch('import sys; print("printed"); print("warned", file=sys.stderr); sys.exit(7)');
    const exit = await exited;
    expect(processes()).toEqual([]);
    expect(exit).toMatchObject({ exitCode: 7 });
    expect(exit.problem).toBeUndefined();
    for (const line of ["printed", "warned"]) expect(log().split("\n")).toContain(line);
    expect(log()).not.toContain("prelort-key");
  });

  test("tells of a program that cannot be started, by its name", async () => {
    const { launch } = await use({ python: "/nowhere/python" });
    const { exited, log, kill } = launch();
    const { exitCode, problem } = await exited;
    expect(exitCode).not.toBe(0);
    expect(`${problem} ${log()}`).toContain("/nowhere/python");
    kill();
  });
}

function lawsOfKilling(use: Use): void {
  test("kills a worker with its children, even if all are stopped, and no other worker", async () => {
    const { launch } = await use();
    const [killed, spared] = [launch(WAIT_WITH_CHILD), launch(WAIT_WITH_CHILD)];
    for (const { processes } of [killed, spared])
      await eventually(() => expect(processes().map(({ line }) => line)).toContainEqual(expect.stringContaining(" child ")));
    const others = pidsOf(spared);
    for (const pid of pidsOf(killed)) process.kill(pid, "SIGSTOP");
    await eventually(() => expect(killed.processes().filter(({ state }) => state !== "T")).toEqual([]));
    for (let times = 0; times < 2; times++) killed.kill();
    await killed.exited;
    await eventually(() => expect(killed.processes()).toEqual([]));
    killed.kill();
    expect(pidsOf(spared)).toEqual(others);
    spared.kill();
    await spared.exited;
    await eventually(() => expect(spared.processes()).toEqual([]));
  });

  test("kills a worker that it has only begun to start", async () => {
    const { launch } = await use();
    const { kill, exited, processes, messages } = launch(WAIT);
    kill();
    await exited;
    // By then it would have come up too.
    await launch(WAIT).heard("beat");
    await eventually(() => expect(processes()).toEqual([]));
    expect(messages).toEqual([]);
  });
}

function pidsOf({ processes }: LaunchedWorker): number[] {
  return processes().map(({ pid }) => pid);
}

function lawsOverTcp(use: Use, lease: number): void {
  test("tells each worker's own public key, before the worker imports anything slow or foreign", async () => {
    const { launch } = await use();
    const [first, second] = [launch(WAIT), launch(WAIT)];
    const keys = [await first.publicKey, await second.publicKey];
    expect(keys.map((key = "") => isPublicKey(key))).toEqual([true, true]);
    expect(new Set(keys).size).toBe(2);
  });

  test("has a worker end that does not find the controller whose key it was told", async () => {
    const { launch, relay } = await use({ lease });
    // What the launcher itself has to connect is connected.
    await launch(WAIT).publicKey;
    const impostor = tcpTransport();
    try {
      relay.redirect(Number(new URL(impostor.open("nobody").endpoint).port));
      const { id, publicKey, exited } = launch(WAIT);
      const { admit } = impostor.open(id);
      void publicKey?.then(admit);
      const joined = impostor.receive()[Symbol.asyncIterator]().next();
      expect(await Promise.race([exited, joined])).toMatchObject({ exitCode: 5 });
    } finally {
      await impostor.close();
    }
  });

  test("has a worker end whose controller is out of reach", async () => {
    const { launch, relay } = await use({ lease });
    const { heard, exited, processes } = launch(WAIT);
    await heard("beat");
    relay.mute();
    await exited;
    await eventually(() => expect(processes()).toEqual([]));
  });
}

function lawsOfPlaces(use: Use, places: number): void {
  test("tells a worker without a place what it waits for, until it has one", async () => {
    const { launch } = await use();
    const first = Array.from({ length: places }, () => launch(WAIT));
    for (const { publicKey } of first) await publicKey;
    const { waits, publicKey } = launch(WAIT);
    await eventually(() => expect(waits.at(-1)).toMatch(/\w/));
    first[0]?.kill();
    await publicKey;
    await eventually(() => expect(waits.at(-1)).toBe(""));
  });

  test("waits for no word from a worker that is lost", async () => {
    const { launch, relay } = await use();
    const [killed, lost] = [launch(WAIT), launch(WAIT)];
    for (const { publicKey } of [killed, lost]) await publicKey;
    relay.mute();
    killed.kill();
    lost.kill(true);
    expect(await Promise.race([killed.exited.then(() => "killed"), lost.exited.then(() => "lost")])).toBe("lost");
  });
}
