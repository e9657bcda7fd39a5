import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import process from "node:process";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { packageRoot } from "../../src/installation.ts";
import { tinyRun } from "../../src/testing/tiny-run.ts";
import { federate } from "../../src/server/federate.ts";
import type { Selection } from "../../src/strategy/strategy.ts";
import { issue, issuesOf } from "../support/config-issues.ts";
import { prepareTracking } from "../../src/track/tracking.ts";
import { eventually } from "../support/patience.ts";
import { before, expectOnce, MlflowServer, readBack, runTracked, temporaryFolder, trackCli, trackersOf } from "../support/tracked-runs.ts";

let server: MlflowServer;
/** Each test has its own. */
let experiment = "";
let count = 0;
beforeAll(async () => {
  server = await MlflowServer.open();
});
afterAll(() => server.close());
beforeEach(async () => {
  experiment = `tests-${++count}`;
  await server.start();
});

const specOf = (trackingUri: string) => ({ name: "mlflow", trackingUri, experiment }) as const;
const readFrom = ({ url }: MlflowServer) => readBack("mlflow", url, experiment);
/** Waits until the server has a round of the only run. A round is evaluated while the next one trains. */
const hasRound = (server: MlflowServer, round: number) => eventually(async () => expect(await server.rounds(experiment)).toContain(round));

test("an MLflow server gets a run's params, metrics, tags and state, each value once", async () => {
  const { directory, sha256 } = await runTracked({ runsDir: await temporaryFolder(), name: "tiny", track: [specOf(server.url)] });
  const held = await readFrom(server);
  await expectOnce(held, directory);
  expect(held.runs).toHaveLength(1);
  expect(held.state).toBe("FINISHED");
  expect(held.params).toMatchObject({ "lora.r": "8", "lora.tiers": "[1, 2, 4, 8]", "fit.lr": "0.05", "model.task": "testing:Softmax" });
  expect(held.tags).toMatchObject({ "prelort.run": directory, "prelort.adapter_sha256": sha256, "mlflow.runName": "tiny" });
  const again = await trackCli(directory);
  expect(again).toEqual({ code: 0, output: "mlflow: had everything already\n" });
  await expectOnce(await readFrom(server), directory);
  expect(trackersOf(directory)).toEqual([]);
});

test("a server that is killed while a run trains does not hold it, and gets the rest once, afterwards", async () => {
  const runsDir = await temporaryFolder();
  const selection = before(2, async () => {
    await hasRound(server, 0);
    await server.kill();
  });
  const { directory, sha256, told } = await runTracked({ runsDir, track: [specOf(server.url)], strategy: { selection } }, false);
  expect(told.slice(-2).map(({ state }) => state)).toEqual(["behind", "incomplete"]);
  expect(told.at(-1)?.round).toBeLessThan(3);
  expect(sha256).toBe((await runTracked({ runsDir, track: [], strategy: { selection: before(9, async () => undefined) } })).sha256);
  expect(await trackCli(directory)).toMatchObject({ code: 1 });
  await server.start();
  expect(await trackCli(directory)).toMatchObject({ code: 0 });
  const held = await readFrom(server);
  await expectOnce(held, directory);
  expect([held.runs.length, held.state]).toEqual([1, "FINISHED"]);
});

test("a server that is killed and started again while a run trains gets everything once, before the run ends", async () => {
  const stop = before(2, async () => {
    await hasRound(server, 0);
    await server.kill();
    await server.start();
  });
  const wait = before(3, () => hasRound(server, 1));
  const selection: Selection = async (context) => (await stop(context), wait(context));
  const { directory } = await runTracked({ runsDir: await temporaryFolder(), track: [specOf(server.url)], strategy: { selection } });
  await expectOnce(await readFrom(server), directory);
});

test("a tracker's process that is killed while a run trains is started again, and delivers everything once", async () => {
  const runsDir = await temporaryFolder();
  const selection = before(2, async () => {
    await hasRound(server, 0);
    const [pid = 0] = trackersOf(path.join(runsDir, "tiny"));
    process.kill(pid, "SIGKILL");
  });
  const { directory, told } = await runTracked({ runsDir, name: "tiny", track: [specOf(server.url)], strategy: { selection } });
  expect(told.map(({ state }) => state)).toContain("behind");
  const held = await readFrom(server);
  await expectOnce(held, directory);
  expect(held.runs).toHaveLength(1);
});

test("a controller that is killed leaves no tracker behind, and its resumed run goes on as the same run there", async () => {
  const runsDir = await temporaryFolder();
  const directory = path.join(runsDir, "tiny");
  const controller = spawn(
    process.execPath,
    [path.join(packageRoot(), "test/trackers/tracked-controller.mjs"), runsDir, JSON.stringify(specOf(server.url))],
    {
      stdio: "ignore",
    },
  );
  await hasRound(server, 1);
  controller.kill("SIGKILL");
  await once(controller, "close");
  await eventually(() => expect(trackersOf(directory)).toEqual([]));
  expect(await trackCli(directory)).toMatchObject({ code: 0 });
  expect((await readFrom(server)).state).toBe("KILLED");
  // Of the name of that of the controller, since a record knows no more of it.
  const selection: Selection = ({ clients }) => clients.map(({ id }) => id);
  await runTracked({ runsDir, name: "tiny", resume: true, track: [specOf(server.url)], strategy: { selection } });
  const held = await readFrom(server);
  await expectOnce(held, directory);
  expect([held.runs.length, held.state]).toEqual([1, "FINISHED"]);
});

test("a server that is not there delays only the start and the end of a run, which says so", async () => {
  const { told } = await runTracked({ runsDir: await temporaryFolder(), track: [specOf("http://127.0.0.1:9")] }, false);
  expect(told.map(({ round }) => round)).toEqual(told.map(() => -1));
  expect([told[0]?.state, told.at(-1)?.state]).toEqual(["behind", "incomplete"]);
});

test("refused credentials are an error before anything starts, which does not show them", async () => {
  const refusing = createServer((_, response) => response.writeHead(401).end("no")).listen(0, "127.0.0.1");
  await once(refusing, "listening");
  onTestFinished(() => void refusing.close());
  process.env["MLFLOW_TRACKING_TOKEN"] = "hunter22-token";
  onTestFinished(() => void delete process.env["MLFLOW_TRACKING_TOKEN"]);
  const { port } = refusing.address() as AddressInfo;
  const track = [specOf(`http://127.0.0.1:${port}`)];
  const runsDir = await temporaryFolder();
  const issues = await issuesOf(() => federate(tinyRun({ runsDir, track })).result);
  expect(issues).toEqual([issue("track[0]", ["mlflow", "MLFLOW_TRACKING_TOKEN"])]);
  expect(JSON.stringify(issues)).not.toContain("hunter22");
});

test("a run's folder cannot choose the run that it is delivered to", async () => {
  const runsDir = await temporaryFolder();
  const track = [specOf(server.url)];
  const victim = await runTracked({ runsDir, name: "victim", track });
  const foreign = await runTracked({ runsDir, name: "foreign", track: [] });
  const own = await trackCli(foreign.directory, "--with", JSON.stringify({ name: "mlflow", tracking_uri: server.url, experiment }));
  expect(own).toMatchObject({ code: 0 });
  const before = await runsOf(server);
  const position = (directory: string) => path.join(directory, "track", "mlflow.json");
  const read = async (directory: string) => JSON.parse(await readFile(position(directory), "utf8")) as { readonly remote: string };
  const [{ remote }, kept] = [await read(victim.directory), await read(foreign.directory)];
  await writeFile(position(foreign.directory), JSON.stringify({ ...kept, remote }));
  const again = await trackCli(foreign.directory, "--with", JSON.stringify({ name: "mlflow", tracking_uri: server.url, experiment }));
  expect(again).toEqual({ code: 0, output: "mlflow: had everything already\n" });
  expect(await read(foreign.directory)).toEqual(kept);
  expect((await runsOf(server)).find((run) => run.id === remote)).toEqual(before.find((run) => run.id === remote));
});

/** What changes in a run of the experiment that is opened again: its end. */
async function runsOf({ url }: MlflowServer): Promise<readonly { readonly id: string; readonly end: string }[]> {
  const { experiment: found } = (await (
    await fetch(`${url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=${experiment}`)
  ).json()) as {
    experiment: { experiment_id: string };
  };
  const answer = await fetch(`${url}/api/2.0/mlflow/runs/search`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ experiment_ids: [found.experiment_id] }),
  });
  const { runs } = (await answer.json()) as { runs: readonly { info: { run_id: string; end_time: number | string } }[] };
  return runs.map(({ info }) => ({ id: info.run_id, end: `${info.end_time}` }));
}

test("a store that is half made when a run ends and waits no longer leaves nothing", async () => {
  const folder = await temporaryFolder();
  const { directory } = await runTracked({ runsDir: folder, name: "tiny", track: [] });
  const stores = path.join(folder, "stores");
  const trackers = [{ name: "mlflow", trackingUri: `sqlite:///${path.join(stores, "a.db")}` }] as const;
  const { signal } = new AbortController();
  const tracking = await prepareTracking({ trackers, signal, tell: () => undefined, graceMs: 1 });
  await tracking.start(directory);
  await eventually(() => expect(readdirSync(stores)).toContain(".a.db.prelort"));
  await tracking.close("finished");
  expect(readdirSync(stores)).not.toContain(".a.db.prelort");
  expect(trackersOf(stores)).toEqual([]);
});

test("a check of a server that never answers ends with its controller", async () => {
  const silent = createServer(() => undefined).listen(0, "127.0.0.1");
  const asked = once(silent, "request");
  await once(silent, "listening");
  onTestFinished(() => {
    silent.closeAllConnections();
    silent.close();
  });
  const { port } = silent.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const controller = spawn(
    process.execPath,
    [path.join(packageRoot(), "test/trackers/tracked-controller.mjs"), await temporaryFolder(), JSON.stringify(specOf(url))],
    { stdio: "ignore", env: { ...process.env, MLFLOW_HTTP_REQUEST_TIMEOUT: "100000" } },
  );
  await asked;
  expect(trackersOf(url)).toHaveLength(1);
  controller.kill("SIGKILL");
  await once(controller, "close");
  await eventually(() => expect(trackersOf(url)).toEqual([]));
});
