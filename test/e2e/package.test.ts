import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { existsSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { execa } from "execa";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { packageRoot } from "../../src/installation.ts";
import { documents, localLinks, resolveLink } from "../support/documents.ts";
import { onlyWheelsOf, writeWheel } from "../support/local-wheel.ts";

// The tarball as npm would publish it, installed into an empty folder, with a cache folder of its own.

let folder: string;
let packed: readonly string[];
let installed: string;
beforeAll(async () => {
  folder = await realpath(await mkdtemp(path.join(tmpdir(), "prelort-package-")));
  const { stdout } = await execa("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], { cwd: packageRoot() });
  const [tarball] = Object.values(JSON.parse(stdout) as Record<string, { filename: string; files: { path: string }[] }>);
  packed = tarball!.files.map((file) => file.path);
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ name: "stranger", private: true, type: "module" }));
  await execa("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", path.join(folder, tarball!.filename)], { cwd: folder });
  installed = path.join(folder, "node_modules/prelort");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const cache = () => path.join(folder, "cache");

interface Ended {
  readonly exitCode?: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function prelort(args: readonly string[], env: Record<string, string> = {}, extendEnv = true): Promise<Ended> {
  const command = path.join(folder, "node_modules/.bin/prelort");
  return execa(command, args, { cwd: folder, reject: false, env: { PRELORT_CACHE: cache(), ...env }, extendEnv });
}

/** A PATH with Node and the given commands only. */
async function pathWith(commands: Record<string, string>): Promise<string> {
  const bin = await mkdtemp(path.join(folder, "bin-"));
  const withNode = { node: `#!/bin/sh\nexec '${process.execPath}' "$@"\n`, ...commands };
  for (const [name, script] of Object.entries(withNode)) {
    await writeFile(path.join(bin, name), script);
    await chmod(path.join(bin, name), 0o755);
  }
  return bin;
}

test("the tarball holds the build, the worker, its constraints, the configs, the guides of src and the examples, but no sources or tests", () => {
  for (const file of [
    "dist/index.js",
    "dist/index.d.ts",
    "dist/cli/main.js",
    "dist/ui/page/index.html",
    "dist/ui/page/main.js",
    "dist/ui/page/style.css",
    "pyproject.toml",
    "workers/constraints.txt",
  ]) {
    expect(packed).toContain(file);
  }
  for (const file of ["workers/prelort_worker/__main__.py", "configs/quickstart.yaml", "README.md", "LICENSE", "package.json"]) {
    expect(packed).toContain(file);
  }
  const unwanted = /^src\/(?!.*README\.md$)|^test\/(?!README\.md$|examples\/)|^runs\/|__pycache__|\.(log|tgz)$|^tsconfig|node_modules/;
  expect(packed.filter((file) => unwanted.test(file))).toEqual([]);
});

test("the tarball holds every guide and every file that a guide links to", () => {
  expect(packed).toEqual(expect.arrayContaining(documents.map(({ name }) => name)));
  const links = documents.flatMap((document) => localLinks(document).map((target) => resolveLink(document, target).file));
  const isFolder = (file: string) => packed.some((name) => name.startsWith(`${file}/`));
  expect(links.length).toBeGreaterThan(50);
  expect(links.filter((file) => !packed.includes(file) && !isFolder(file))).toEqual([]);
});

test("the installed command lists its subcommands", async () => {
  const { stdout, exitCode } = await prelort(["--help"]);
  expect(exitCode).toBe(0);
  for (const command of ["setup", "doctor", "plan", "run", "report"]) expect(stdout).toMatch(new RegExp(`^  ${command}\\b`, "m"));
});

test("the installed command serves its page, charts included", async () => {
  const served = execa(path.join(folder, "node_modules/.bin/prelort"), ["ui", "."], { cwd: folder, reject: false });
  onTestFinished(() => void served.kill("SIGKILL"));
  const [printed] = (await once(served.stdout, "data")) as [Buffer];
  const link = new URL(/http:\S+/.exec(printed.toString())?.[0] ?? "");
  const page = await fetch(link);
  const cookie = page.headers.get("set-cookie")?.split(";")[0] ?? "";
  for (const file of ["main.js", "style.css", "palette.css", "vendor/uplot.js", "vendor/uplot.css"]) {
    expect((await fetch(new URL(`app/ui/page/${file}`, link), { headers: { cookie } })).status, file).toBe(200);
  }
  served.kill("SIGINT");
  expect((await served).exitCode).toBe(0);
});

test("the installed module can be imported, and required from CommonJS", async () => {
  const uses = [
    ["module", "(await import('prelort')).federate", "function"],
    ["commonjs", "require('prelort').federate, typeof require('prelort/testing').tinyRun", "function function"],
  ] as const;
  for (const [kind, use, expected] of uses) {
    const { stdout } = await execa(process.execPath, [`--input-type=${kind}`, "-e", `console.log(typeof ${use})`], { cwd: folder });
    expect(stdout).toBe(expected);
  }
});

test("the installed package has no OpenTelemetry, and runs without it even where another copy of its API is registered", async () => {
  expect(existsSync(path.join(folder, "node_modules/@opentelemetry"))).toBe(false);
  const script = `
    globalThis[Symbol.for("opentelemetry.js.api.1")] = { version: "1.9.0" };
    const [{ federate }, { tinyRun }] = [await import("prelort"), await import("prelort/testing")];
    console.log((await federate(tinyRun({ runsDir: "untraced", rounds: 1 })).result).metrics.length);
  `;
  const { stdout } = await execa(process.execPath, ["--input-type=module", "-e", script], { cwd: folder });
  expect(stdout).toBe("2");
});

// Every version of TypeScript installs a command of the same name, so the oldest cannot be a dependency of this package.
const OLDEST_TYPESCRIPT = "5.0.4";

test(
  "projects with the oldest and the newest TypeScript compile against the package, with library checks, in every module system",
  { timeout: 1_800_000 },
  async () => {
    await execa("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", "--no-save", `typescript@${OLDEST_TYPESCRIPT}`], {
      cwd: folder,
    });
    const oldest = path.join(folder, "node_modules/typescript/bin/tsc");
    const newest = path.join(packageRoot(), "node_modules/typescript/bin/tsc");
    const use = [
      'import { federate, type FederateOptions, segmentWise } from "prelort";',
      'import { clientsOf, tinyRun } from "prelort/testing";',
      "export const used: unknown[] = [federate, segmentWise()];",
      "export const tested: FederateOptions = tinyRun({ runsDir: 'runs', strategy: { aggregation: segmentWise() } });",
      "// @ts-expect-error Clients are a list; a type that was not found would be anything.",
      "export const ids: number = clientsOf([{ r: 2 }]);",
      "export const task: FederateOptions['model']['task'] = 'causal-lm';",
      "export const own: FederateOptions['model']['task'] = 'my_task:MyTask';",
      "// @ts-expect-error Neither one of the four tasks nor module:Class.",
      "export const misspelt: FederateOptions['model']['task'] = 'causl-lm';",
      "// @ts-expect-error An aggregation is no number; a type that was not found would be.",
      "export const wrong: number = segmentWise();",
      "export async function rounds(options: FederateOptions): Promise<number[]> {",
      "  const ended: number[] = [];",
      '  for await (const event of federate(options)) if (event.type === "round-end") ended.push(event.metrics.bytesUp);',
      "  return ended;",
      "}",
    ].join("\n");
    for (const name of ["use.ts", "use.cts"]) await writeFile(path.join(folder, name), use);
    const [both, single] = [["use.ts", "use.cts"], ["use.ts"]];
    // To the oldest, nodenext is node16 by another name.
    const kinds = [
      ["nodenext", both, [newest]],
      ["node16", both, [oldest, newest]],
      ["bundler", single, [oldest, newest]],
    ] as const;
    for (const [moduleResolution, files, compilers] of kinds) {
      const module = moduleResolution === "bundler" ? "esnext" : moduleResolution;
      const compilerOptions = { noEmit: true, strict: true, skipLibCheck: false, target: "es2022", types: [], module, moduleResolution };
      await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
      for (const tsc of compilers) {
        const { stdout } = await execa(process.execPath, [tsc, "-p", "."], { cwd: folder, reject: false });
        expect(stdout, `${tsc} with ${moduleResolution}`).toBe("");
      }
    }
  },
);

test("on a bare machine, doctor reports what is missing and how to get it, and exits with 3", async () => {
  const { stdout, stderr, exitCode } = await prelort(["doctor", "--json"]);
  const { findings } = JSON.parse(stdout) as { findings: { name: string; status: string; remedy?: string }[] };
  expect(findings.find(({ name }) => name === "Python environment")).toMatchObject({ status: "missing", remedy: "npx prelort setup" });
  expect(findings.find(({ name }) => name === "prelort:wordnet-nouns")).toMatchObject({ status: "absent", remedy: "npx prelort setup" });
  expect(stderr).toContain("Python environment");
  expect(exitCode).toBe(3);
});

test("in a checkout that is set up, doctor finds everything, each package in the version that the constraints pin", async () => {
  const { stdout, exitCode } = await execa(process.execPath, [path.join(packageRoot(), "dist/cli/main.js"), "doctor", "--json"]);
  const { findings } = JSON.parse(stdout) as { findings: { name: string; status: string }[] };
  expect(findings.filter(({ status }) => status === "missing" || status === "differs")).toEqual([]);
  expect(findings.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["Node", "torch", "transformers", "peft", "pyzmq", "devices", "disk"]),
  );
  expect(exitCode).toBe(0);
});

test("setup without Python exits with 3 and says what to install", async () => {
  const { stderr, exitCode } = await prelort(["setup"], { PATH: await pathWith({}) }, false);
  expect(stderr).toMatch(/Python 3\.10\b[^]*\b(sudo apt|brew) install python/);
  expect(exitCode).toBe(3);
});

test("setup with a Python that is too old exits with 3 and names its version", async () => {
  const old = `#!/bin/sh\necho '["/usr/bin/python3", "3.8.10", true]'\n`;
  const { stderr, exitCode } = await prelort(["setup"], { PATH: await pathWith({ python3: old }) }, false);
  expect(stderr).toMatch(/\bpython3\b.*\b3\.8\.10\b/);
  expect(exitCode).toBe(3);
});

test("setup creates the environment in the cache folder once, and recreates an interrupted one", async () => {
  // A stand-in for PyTorch, which takes minutes to install. pip, venv and the stamp are real.
  const wheels = path.join(folder, "wheels");
  await mkdir(wheels);
  await writeWheel(wheels, "stand-in", "1.0", { "stand_in.py": "" });
  await writeWheel(wheels, "stand-in", "2.0", { "stand_in.py": "" });
  await writeFile(path.join(installed, "pyproject.toml"), '[project]\ndependencies = ["stand-in"]\n');
  await writeFile(path.join(installed, "workers/constraints.txt"), "stand-in==1.0\n");
  const setUp = () => prelort(["setup", "--no-quickstart"], onlyWheelsOf(wheels));
  const python = path.join(cache(), "venv/bin/python");
  const version = async () => (await execa(python, ["-c", "from importlib.metadata import version; print(version('stand-in'))"])).stdout;

  const venv = path.join(cache(), "venv");
  // venv rewrites the one whenever it creates an environment, setup the other whenever pip has installed something.
  const written = (file: string) => statSync(path.join(venv, file)).mtimeMs;
  const state = () => ({ created: written("pyvenv.cfg"), installed: written("prelort.json") });

  expect(await setUp()).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(venv) });
  expect(await version()).toBe("1.0");
  const first = state();
  expect(await setUp()).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(venv) });
  expect(state()).toEqual(first);

  await writeFile(path.join(installed, "workers/constraints.txt"), "stand-in==2.0\n");
  expect(await setUp()).toMatchObject({ exitCode: 0 });
  expect(await version()).toBe("2.0");
  expect(state().created).toBe(first.created);
  expect(state().installed).toBeGreaterThan(first.installed);

  await rm(path.join(venv, "prelort.json"));
  expect(await setUp()).toMatchObject({ exitCode: 0 });
  expect(await version()).toBe("2.0");
  expect(state().created).toBeGreaterThan(first.created);
});

test("setup exits with 3 when pip cannot find a requirement, and the next setup tries again", async () => {
  await writeFile(path.join(installed, "pyproject.toml"), '[project]\ndependencies = ["not-there-at-all"]\n');
  const { stderr, exitCode } = await prelort(["setup", "--no-quickstart"], onlyWheelsOf(folder));
  expect(stderr).toMatch(/No matching distribution found for not-there-at-all/);
  expect(exitCode).toBe(3);
  await expect(readFile(path.join(cache(), "venv/prelort.json"))).rejects.toThrow("ENOENT");
});
