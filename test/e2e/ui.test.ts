import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { type Browser, type BrowserContext, chromium as driver, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { camelKeys } from "../../src/base/case.ts";
import { createDeferred } from "../../src/base/deferred.ts";
import { readRunState } from "../../src/records/run-state.ts";
import { listRanks } from "../../src/strategy/ranks/list.ts";
import { tinyLauncher } from "../../src/testing/launcher.ts";
import type { ListPage } from "../../src/ui/messages.ts";
import { chromium } from "../support/chromium.ts";
import { cli, temporaryFolder, tiny } from "../support/e2e.ts";
import { eventually, PATIENCE_MS } from "../support/patience.ts";
import { line, trainTiny } from "../support/ui-runs.ts";

const folder = temporaryFolder();
const runs = () => path.join(folder(), "runs");
const HOSTILE = '<img src="x" onerror="document.title=1">';
const LONG = `long-${"name-without-a-space".repeat(4)}`;
const PHONE = { width: 390, height: 844 };
/** In the page: its width, the screen's, and what scrolls sideways but not by keyboard or without a name. */
const WIDTHS = `({
  width: document.scrollingElement.scrollWidth,
  inner: innerWidth,
  unreachable: [...document.querySelectorAll("main *")]
    .filter((each) => each.scrollWidth > each.clientWidth && ["auto", "scroll"].includes(getComputedStyle(each).overflowX))
    .filter((each) => each.tabIndex < 0 || !each.hasAttribute("aria-label"))
    .map((each) => each.outerHTML.slice(0, 100)),
})`;
const ESCAPES = "\u001b]0;owned\u0007\u001b[31m<b>red</b>";

interface Served {
  readonly child: ChildProcess;
  readonly link: string;
  readonly code: Promise<number | null>;
}

/** Starts a command, and resolves once it has printed a link to a page. */
function serve(...args: readonly string[]): Promise<Served> {
  const child = spawn(process.execPath, [cli, ...args], { cwd: folder(), stdio: ["ignore", "pipe", "pipe"] });
  const code = new Promise<number | null>((resolve) => child.once("exit", resolve));
  return new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        const link = /http:\S+/.exec(line)?.[0];
        if (link !== undefined) resolve({ child, link, code });
      });
    }
    void code.then((status) => reject(new Error(`it ended with ${status} before it printed a link`)));
  });
}

test("prelort ui ends with Ctrl-C, and its port is free again", async () => {
  mkdirSync(runs(), { recursive: true });
  const { child, link, code } = await serve("ui", "runs");
  expect((await fetch(link)).status).toBe(200);
  child.kill("SIGINT");
  expect(await code).toBe(0);
  await expect(fetch(link)).rejects.toThrow("fetch failed");
});

test("run --ui serves the page of its run as long as it lasts; a page that may control runs stops it as Ctrl-C does, and resumes it", async () => {
  const config = path.join(folder(), "tiny.yaml");
  writeFileSync(
    config,
    `name: controlled
runs_dir: ${folder()}/others
rounds: 100000
model: { name_or_path: ${tiny("tiny-llama")}, task: causal-lm }
lora: { r: 2, tiers: [1, 2], target_modules: [q_proj] }
data: { path: ${tiny("words.jsonl")}, text: "{word} {gloss}", max_length: 32, eval_examples: 8, clients: 2 }
strategy: { rank_assignment: { name: list, ranks: [2, 1] } }
fit: { local_steps: 1, batch_size: 2 }
workers: { count: 1 }
`,
  );
  mkdirSync(path.join(folder(), "others"));
  const running = await serve("run", config, "--ui");
  expect(new URL(running.link).hash).toBe("#/run/controlled");
  expect((await fetch(running.link)).status).toBe(200);
  const { child, link, code } = await serve("ui", "others", "--allow-control");
  const { origin, port, searchParams } = new URL(link);
  const headers = { cookie: `prelort_ui_${port}=${searchParams.get("token")}`, origin };
  const act = (what: string) => fetch(new URL(`api/run/${what}?name=controlled`, link), { method: "POST", headers });
  const state = async () => {
    const { changed } = (await (await fetch(new URL("api/runs", link), { headers })).json()) as ListPage;
    return changed.find(({ name }) => name === "controlled")?.state;
  };
  const until = (wanted: string) => eventually(async () => expect(await state()).toBe(wanted));
  await until("running");
  expect((await act("resume")).status).toBe(409);
  expect((await act("stop")).status).toBe(200);
  expect(await running.code).toBe(130);
  await expect(fetch(running.link)).rejects.toThrow("fetch failed");
  await until("interrupted");
  expect((await act("stop")).status).toBe(409);
  expect((await act("resume")).status).toBe(200);
  await until("running");
  // It stops the run that it resumed before it ends itself.
  child.kill("SIGINT");
  expect(await code).toBe(0);
  expect(await readRunState(path.join(folder(), "others/controlled"))).toMatchObject({ state: "interrupted" });
});

describe.skipIf(chromium === undefined)("in Chromium (/usr/bin/chromium or CHROMIUM; skipped where there is none)", () => {
  let ui: Served;
  let browser: Browser;
  beforeAll(async () => {
    let fits = 0;
    const launcher = tinyLauncher({
      fit({ train }) {
        if (++fits % 5 === 0) throw new Error(ESCAPES);
        return train();
      },
    });
    await trainTiny({ runsDir: runs(), name: "plain", rounds: 3 });
    await trainTiny({ runsDir: runs(), name: "failing", rounds: 3, launcher });
    mkdirSync(path.join(runs(), HOSTILE), { recursive: true });
    ui = await serve("ui", "runs");
    browser = await driver.launch({ executablePath: chromium as string, args: ["--no-sandbox"] });
  });
  afterAll(async () => {
    await browser?.close();
    ui?.child.kill("SIGINT");
    await ui?.code;
  });

  /** A browser without cookies, opened with the link; it fails the test if the page asks for anything elsewhere or breaks. */
  async function open(hash = ""): Promise<{ readonly context: BrowserContext; readonly page: Page }> {
    const context = await browser.newContext();
    const page = await openIn(context, `${ui.link}${hash}`);
    onTestFinished(() => context.close());
    return { context, page };
  }

  async function openIn(context: BrowserContext, address: string): Promise<Page> {
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const { origin } = new URL(ui.link);
    const faults: string[] = [];
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== origin) faults.push(request.url());
    });
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("console", (message) => {
      // An answer with an error status is shown in the page, too.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) faults.push(message.text());
    });
    page.on("dialog", (dialog) => faults.push(dialog.message()));
    onTestFinished(() => expect(faults).toEqual([]));
    await page.goto(address);
    return page;
  }

  test("the link's secret leaves the address, and a reload needs it no more", async () => {
    const { page } = await open();
    await page.getByRole("link", { name: "plain" }).waitFor();
    expect(page.url()).toBe(new URL(".", ui.link).href);
    await page.reload();
    await page.getByRole("link", { name: "plain" }).waitFor();
    const stranger = await browser.newContext();
    onTestFinished(() => stranger.close());
    const response = await (await stranger.newPage()).goto(new URL(ui.link).origin);
    expect(response?.status()).toBe(401);
  });

  test("a run's rounds appear as they end, also after a reload in the middle and in a second tab", async () => {
    const gates = Array.from({ length: 3 }, () => createDeferred<void>());
    const launcher = tinyLauncher({
      async fit({ train, round }) {
        await gates[round - 1]?.promise;
        return train();
      },
    });
    // One client, so that the second worker evaluates a round while the next one waits.
    const [data, strategy] = [
      { path: "prelort/testing", label: "label", evalExamples: 64, clients: 1 },
      { rankAssignment: listRanks([8]) },
    ];
    // As the link of run --ui, which is there before the run's folder.
    const { context, page } = await open("#/run/live");
    await page.getByRole("alert").waitFor();
    const trained = trainTiny({ runsDir: runs(), name: "live", rounds: 3, launcher, data, strategy });
    await page.getByText(/waiting for 1 of 1 clients/).waitFor();
    await page.getByText("No values yet.").first().waitFor();
    gates[0]?.resolve();
    await page.getByText("1 of 3 rounds done").waitFor();
    await page.reload();
    await page.getByText("1 of 3 rounds done").waitFor();
    const second = await openIn(context, page.url());
    gates[1]?.resolve();
    for (const tab of [page, second]) await tab.getByText("2 of 3 rounds done").waitFor();
    gates[2]?.resolve();
    await trained;
    for (const tab of [page, second]) {
      await tab.getByText("3 of 3 rounds done").waitFor();
      await tab.locator(".state", { hasText: "done" }).waitFor();
      expect(await tab.getByText("No values yet.").count()).toBe(0);
      await tab.getByRole("button", { name: "Clients on workers: show as a table" }).click();
      const trainedFits = tab.getByRole("region", { name: /^Tasks of the workers/ }).getByRole("row", { name: /trained/ });
      await eventually(async () => expect(await trainedFits.count()).toBe(3));
    }
  });

  test("names that are HTML and escape sequences in errors are shown as text", async () => {
    const { page } = await open();
    await page.getByText(HOSTILE).waitFor();
    await page.goto(`${new URL(".", ui.link).href}#/run/failing`);
    await page.getByText("\\u001b]0;owned\\u0007\\u001b[31m<b>red</b>").first().waitFor();
    expect(await page.locator("main img, main b:text('red')").count()).toBe(0);
    expect(await page.title()).toBe("failing · prelort");
    await page.goto(`${new URL(".", ui.link).href}#/run/${encodeURIComponent(HOSTILE)}`);
    await page.getByRole("heading", { name: HOSTILE }).waitFor();
    await page.goto(`${new URL(".", ui.link).href}#/run/${encodeURIComponent(`absent ${HOSTILE}`)}`);
    await page.getByRole("alert").filter({ hasText: HOSTILE }).waitFor();
    expect(await page.locator("main img").count()).toBe(0);
  });

  test("selected runs are laid over one another, with what differs in their configs", async () => {
    const { page } = await open();
    for (const name of ["plain", "failing"]) await page.getByRole("checkbox", { name: `Select ${name}` }).check();
    await page.getByRole("link", { name: "Compare 2 runs" }).click();
    const figure = page.getByRole("figure");
    for (const name of ["plain", "failing"]) await figure.getByRole("listitem").filter({ hasText: name }).waitFor();
    await figure.getByRole("button", { name: /show as a table/ }).click();
    await page.getByLabel("Tier").selectOption("4");
    const rows = figure.getByRole("region").getByRole("row");
    await eventually(async () => expect(await rows.count()).toBe(1 + 4));
    await page.getByText("Their configs are the same.").waitFor();
  });

  test("every control, chart and progress bar has a name for screen readers", async () => {
    const { page } = await open();
    await page.getByRole("link", { name: "plain" }).waitFor();
    const session = await page.context().newCDPSession(page);
    const named = new Set([
      "button",
      "link",
      "checkbox",
      "slider",
      "combobox",
      "searchbox",
      "image",
      "progressbar",
      "DisclosureTriangle",
      "region",
    ]);
    const unnamed = async (): Promise<{ readonly seen: number; readonly without: readonly string[] }> => {
      const { nodes } = await session.send("Accessibility.getFullAXTree");
      const controls = nodes.filter(({ ignored, role }) => !ignored && named.has(String(role?.value)));
      return { seen: controls.length, without: controls.filter(({ name }) => !name?.value).map(({ role }) => String(role?.value)) };
    };
    for (const [hash, last] of [
      ["#/", page.getByRole("checkbox", { name: "Select plain" })],
      ["#/run/failing", page.getByRole("button", { name: /^Log of/ }).first()],
      ["#/compare?run=plain&run=failing", page.getByLabel("Tier")],
    ] as const) {
      await page.goto(`${new URL(".", ui.link).href}${hash}`);
      await last.waitFor();
      const { seen, without } = await unnamed();
      expect(seen, hash).toBeGreaterThan(4);
      expect(without, hash).toEqual([]);
    }
  });

  test("the keyboard reaches a run on a phone's screen", async () => {
    const { page } = await open();
    await page.setViewportSize(PHONE);
    await page.getByRole("link", { name: "plain" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "plain" }).waitFor();
    await page.getByRole("img", { name: /quality over the server rounds/ }).waitFor();
  });

  test("no page is wider than a phone's screen, with all tables shown and long names, and what scrolls can be reached and has a name", async () => {
    await trainTiny({ runsDir: runs(), name: LONG, rounds: 1, fit: { localSteps: 1, lr: 0.02 } });
    const { page } = await open();
    await page.setViewportSize(PHONE);
    const compared = [LONG, "plain", "failing"].map((name) => `run=${name}`).join("&");
    for (const hash of ["#/", "#/run/failing", `#/run/${LONG}`, `#/compare?${compared}`]) {
      await page.goto(`${new URL(".", ui.link).href}${hash}`);
      await page
        .getByText(hash.includes("failing") ? "failing" : LONG)
        .first()
        .waitFor();
      if (hash.startsWith("#/run")) await page.getByText("Config", { exact: true }).click();
      if (hash !== "#/") await page.getByRole("row", { name: /^fit\.local_steps/ }).waitFor();
      for (const button of await page.getByRole("button", { name: /show as a table/ }).all()) await button.click();
      const { width, inner, unreachable } = (await page.evaluate(WIDTHS)) as {
        readonly width: number;
        readonly inner: number;
        readonly unreachable: readonly string[];
      };
      expect(width, hash).toBeLessThanOrEqual(inner);
      expect(unreachable, hash).toEqual([]);
    }
  });

  test("a worker's device and the memory of its fits are shown, and follow as fits are recorded", async () => {
    const directory = path.join(runs(), "with-memory");
    mkdirSync(directory);
    copyFileSync(path.join(runs(), "plain/run.json"), path.join(directory, "run.json"));
    const device = { type: "cuda", name: "H200 <b>", capability: "9.0", memoryBytes: 140 * 2 ** 30 };
    const ready = { type: "worker-ready", workerId: "w0", pid: 1, host: "gpu-2", versions: {}, variables: {}, device };
    const fit = (round: number, gib: number) => {
      const of = { type: "client-fit", clientId: "c0", r: 1, workerId: "w0", loss: null, seconds: 1 };
      return line(round + 1, round, { ...of, round, peakMemoryBytes: gib * 2 ** 30 });
    };
    writeFileSync(path.join(directory, "events.jsonl"), line(1, 0, ready) + fit(1, 2));
    const { page } = await open("#/run/with-memory");
    const row = page.getByRole("region", { name: "Memory of workers" }).getByRole("row").last();
    await eventually(async () =>
      expect(await row.locator("th, td").allTextContents()).toEqual(
        "w0|gpu-2|H200 <b> (cuda)|140.0 GiB|2.0 GiB|2.0 GiB in round 1|1.4 %".split("|"),
      ),
    );
    appendFileSync(path.join(directory, "events.jsonl"), fit(2, 7));
    await row.getByText("7.0 GiB in round 2").waitFor();
  });

  test("samples and the best round appear as they are recorded, as text and within a phone's screen, and are the same after a reload", async () => {
    const best = { metric: "accuracy", at: 4 } as const;
    await trainTiny({ runsDir: runs(), name: "chosen", rounds: 1, evaluate: { best } });
    const directory = path.join(runs(), "with-samples");
    mkdirSync(directory);
    const record = readFileSync(path.join(runs(), "chosen/run.json"), "utf8");
    writeFileSync(path.join(directory, "run.json"), record.replace('"rounds":1', '"rounds":3').replace('"rounds": 1', '"rounds": 3'));
    const told = readFileSync(path.join(runs(), "chosen/metrics.jsonl"), "utf8").trimEnd().split("\n");
    const tell = (round: number, answer: string, more: object) => {
      const answers = [
        { r: 1, text: answer },
        { r: 8, text: "" },
      ];
      const samples = [{ prompt: `${HOSTILE} ${"x".repeat(900)}`, reference: "a *warm* wind", answers }];
      const metrics = { ...(JSON.parse(told[round] ?? "") as object), samples };
      appendFileSync(path.join(directory, "metrics.jsonl"), `${JSON.stringify(metrics)}\n`);
      const event = { type: "round-end", round, metrics: camelKeys(metrics), sha256: "", ...more };
      appendFileSync(path.join(directory, "events.jsonl"), line(round + 1, round, event));
    };
    tell(0, "mist", {});
    const { page } = await open("#/run/with-samples");
    await page.setViewportSize(PHONE);
    const cells = page.getByRole("region", { name: "Answers to sample 1" }).locator("td");
    await eventually(async () => expect(await cells.allTextContents()).toEqual(["mist", "not yet", "(empty)", "not yet"]));
    expect(await page.getByText(/^Best: /).count()).toBe(0);
    const { accuracy } = (JSON.parse(told[1] ?? "") as { by_tier: { r: number; accuracy: number }[] }).by_tier.find(({ r }) => r === 4)!;
    tell(1, ESCAPES, { best: { ...best, round: 1, value: accuracy } });
    const check = async () => {
      await page.getByText(`Best: round 1 (accuracy ${(100 * accuracy).toFixed(1)} %, rank 4).`, { exact: true }).waitFor();
      await eventually(async () =>
        expect(await cells.allTextContents()).toEqual(["mist", "\\u001b]0;owned\\u0007\\u001b[31m<b>red</b>", "(empty)", "(empty)"]),
      );
      await page.getByRole("group", { name: "Prompt of sample 1" }).getByText(HOSTILE).waitFor();
      await page.getByRole("img", { name: /over the server rounds.*; best: round 1\.$/ }).waitFor();
      expect(await page.locator("main img, .sample b").count()).toBe(0);
      expect(await page.evaluate(WIDTHS)).toEqual({ width: PHONE.width, inner: PHONE.width, unreachable: [] });
    };
    await check();
    await page.getByRole("button", { name: "Quality over rounds: show as a table" }).click();
    await page.getByRole("rowheader", { name: "1 (best)" }).waitFor();
    await page.reload();
    await check();
    appendFileSync(path.join(directory, "events.jsonl"), line(3, 3, { type: "early-stop", round: 1, reason: "target" }));
    await page.getByText("Stopped early after round 1 of 3, since the target is reached.").waitFor();
  });

  test("charts name both axes with their range, for the eye and for screen readers, and the timeline has times", async () => {
    const { page } = await open("#/run/plain");
    const image = (name: RegExp) => page.getByRole("img", { name }).first().waitFor();
    await image(/over the server rounds.*x axis: round, 0 to 3; y axis: accuracy, [\d.]+ % to [\d.]+ %\.$/);
    await image(/over the rank.*x axis: rank, 1 to 8; y axis: accuracy/);
    await image(/clients that trained each segment.*x axis: round, 1 to 3; y axis: clients, 2 to 8/);
    await image(/logarithmic.*y axis: energy/);
    await image(/training loss.*y axis: loss/);
    await image(/tensor bytes.*y axis: bytes per round, [\d.]+ KiB/);
    await image(/seconds that each phase.*y axis: time per round/);
    await image(/Timeline.*x axis: time since the run's start \(minutes:seconds\), 0:00 to 0:\d\d; y axis: workers/);
    await page.getByRole("combobox", { name: /^Show/ }).selectOption("1");
    await image(/Timeline.*x axis: time since round 3 began \(minutes:seconds\), 0:00 to 0:\d\d/);
  });
});
