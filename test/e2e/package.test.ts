import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { execa } from "execa";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../src/installation.ts";
import { documents, localLinks, resolveLink } from "../support/documents.ts";
import { onlyWheelsOf, writeWheel } from "../support/local-wheel.ts";

// The tarball as npm would publish it, installed into an empty folder, on its own cache folder.

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

/** A PATH on which there is Node, and besides it only what is given. */
async function pathWith(commands: Record<string, string>): Promise<string> {
  const bin = await mkdtemp(path.join(folder, "bin-"));
  const withNode = { node: `#!/bin/sh\nexec '${process.execPath}' "$@"\n`, ...commands };
  for (const [name, script] of Object.entries(withNode)) {
    await writeFile(path.join(bin, name), script);
    await chmod(path.join(bin, name), 0o755);
  }
  return bin;
}

test("the tarball holds the build, the worker, its constraints and the configs, the guides of src, and no sources or tests", () => {
  for (const file of ["dist/index.js", "dist/index.d.ts", "dist/cli/main.js", "pyproject.toml", "workers/constraints.txt"]) {
    expect(packed).toContain(file);
  }
  for (const file of ["workers/prelort_worker/__main__.py", "configs/quickstart.yaml", "README.md", "LICENSE", "package.json"]) {
    expect(packed).toContain(file);
  }
  const unwanted = /^src\/(?!.*README\.md$)|^test\/(?!README\.md$)|^runs\/|__pycache__|\.(log|tgz)$|tsconfig/;
  expect(packed.filter((file) => unwanted.test(file))).toEqual([]);
});

test("the tarball holds every guide, and whatever file a guide links", () => {
  expect(packed).toEqual(expect.arrayContaining(documents.map(({ name }) => name)));
  const links = documents.flatMap((document) => localLinks(document).map((target) => resolveLink(document, target).file));
  const isFolder = (file: string) => packed.some((name) => name.startsWith(`${file}/`));
  expect(links.length).toBeGreaterThan(50);
  expect(links.filter((file) => !packed.includes(file) && !isFolder(file))).toEqual([]);
});

test("the installed command knows its sub-commands", async () => {
  const { stdout, exitCode } = await prelort(["--help"]);
  expect(exitCode).toBe(0);
  for (const command of ["setup", "doctor", "plan", "run", "report"]) expect(stdout).toMatch(new RegExp(`^  ${command}\\b`, "m"));
});

test("the installed module can be imported, and required from CommonJS", async () => {
  for (const use of ["(await import('prelort')).federate", "require('prelort').federate", "require('prelort/testing').tinyRun"]) {
    const kind = use.startsWith("require") ? "commonjs" : "module";
    const { stdout } = await execa(process.execPath, [`--input-type=${kind}`, "-e", `console.log(typeof ${use})`], { cwd: folder });
    expect(stdout).toBe("function");
  }
});

// TypeScript has a command of one name in every version, so the oldest is no dependency of this package.
const OLDEST_TYPESCRIPT = "5.0.4";

test(
  "projects of the oldest and the newest TypeScript compile against it, library checks on, in every kind of module",
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
    const kinds = { nodenext: ["use.ts", "use.cts"], node16: ["use.ts", "use.cts"], bundler: ["use.ts"] };
    for (const [moduleResolution, files] of Object.entries(kinds)) {
      const module = moduleResolution === "bundler" ? "esnext" : moduleResolution;
      const compilerOptions = { noEmit: true, strict: true, skipLibCheck: false, target: "es2022", types: [], module, moduleResolution };
      await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
      for (const tsc of [oldest, newest]) {
        const { stdout } = await execa(process.execPath, [tsc, "-p", "."], { cwd: folder, reject: false });
        expect(stdout, `${tsc} with ${moduleResolution}`).toBe("");
      }
    }
  },
);

test("doctor says on a bare machine what is missing, how to get it, and exits with 3", async () => {
  const { stdout, stderr, exitCode } = await prelort(["doctor", "--json"]);
  const { findings } = JSON.parse(stdout) as { findings: { name: string; status: string; remedy?: string }[] };
  expect(findings.find(({ name }) => name === "Python environment")).toMatchObject({ status: "missing", remedy: "npx prelort setup" });
  expect(findings.find(({ name }) => name === "prelort:wordnet-nouns")).toMatchObject({ status: "absent", remedy: "npx prelort setup" });
  expect(stderr).toContain("what a run needs is missing: Python environment");
  expect(exitCode).toBe(3);
});

test("in a checkout that is set up, doctor finds all there, each package in the version of the constraints", async () => {
  const { stdout, exitCode } = await execa(process.execPath, [path.join(packageRoot(), "dist/cli/main.js"), "doctor", "--json"]);
  const { findings } = JSON.parse(stdout) as { findings: { name: string; status: string }[] };
  expect(findings.filter(({ status }) => status === "missing" || status === "differs")).toEqual([]);
  expect(findings.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["Node", "torch", "transformers", "peft", "pyzmq", "devices", "disk"]),
  );
  expect(exitCode).toBe(0);
});

test("setup without Python exits with 3, says what to install, and makes nothing", async () => {
  const { stderr, exitCode } = await prelort(["setup"], { PATH: await pathWith({}) }, false);
  expect(stderr).toMatch(/prelort needs Python 3\.10 or newer[^]*To fix it: (sudo apt|brew) install python/);
  expect(exitCode).toBe(3);
});

test("setup with a Python that is too old exits with 3 and names its version", async () => {
  const old = `#!/bin/sh\necho '["/usr/bin/python3", "3.8.10", true]'\n`;
  const { stderr, exitCode } = await prelort(["setup"], { PATH: await pathWith({ python3: old }) }, false);
  expect(stderr).toContain("python3 is 3.8.10");
  expect(exitCode).toBe(3);
});

test("setup makes the environment in the cache folder, once; an interrupted one is made anew", async () => {
  // A requirement that stands for PyTorch, which takes minutes to install: pip, venv and the stamp are the real ones.
  const wheels = path.join(folder, "wheels");
  await mkdir(wheels);
  await writeWheel(wheels, "stand-in", "1.0", { "stand_in.py": "" });
  await writeWheel(wheels, "stand-in", "2.0", { "stand_in.py": "" });
  await writeFile(path.join(installed, "pyproject.toml"), '[project]\ndependencies = ["stand-in"]\n');
  await writeFile(path.join(installed, "workers/constraints.txt"), "stand-in==1.0\n");
  const setUp = () => prelort(["setup", "--no-quickstart"], onlyWheelsOf(wheels));
  const python = path.join(cache(), "venv/bin/python");
  const version = async () => (await execa(python, ["-c", "from importlib.metadata import version; print(version('stand-in'))"])).stdout;

  expect(await setUp()).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(new RegExp(`${cache()}/venv with Python 3`)) });
  expect(await version()).toBe("1.0");
  expect(await setUp()).toMatchObject({ exitCode: 0, stderr: `Python environment: up to date in ${cache()}/venv` });

  await writeFile(path.join(installed, "workers/constraints.txt"), "stand-in==2.0\n");
  expect(await setUp()).toMatchObject({ exitCode: 0, stderr: expect.not.stringContaining("making") });
  expect(await version()).toBe("2.0");

  await rm(path.join(cache(), "venv/prelort.json"));
  expect(await setUp()).toMatchObject({ exitCode: 0, stderr: expect.stringContaining("making") });
  expect(await version()).toBe("2.0");
});

test("a requirement that pip cannot get is exit 3, and the next setup tries again", async () => {
  await writeFile(path.join(installed, "pyproject.toml"), '[project]\ndependencies = ["not-there-at-all"]\n');
  const { stderr, exitCode } = await prelort(["setup", "--no-quickstart"], onlyWheelsOf(folder));
  expect(stderr).toMatch(/pip could not install the Python packages into .*No matching distribution found for not-there-at-all/s);
  expect(exitCode).toBe(3);
  await expect(readFile(path.join(cache(), "venv/prelort.json"))).rejects.toThrow("ENOENT");
});
