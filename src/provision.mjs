/*
 * What the npm scripts run. Plain JavaScript without dependencies, and not TypeScript like the rest, since it runs
 * first on a fresh clone, when nothing is installed yet: it gets the Node packages, builds dist, and leaves the
 * Python side to `prelort setup`.
 *
 *   node src/provision.mjs quickstart | test | test:cluster | test:trackers | test:gpu | check | build | format | bench | chaos | fuzz
 */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
/** Where `prelort setup` makes the environment of a checkout. */
const python = path.join(root, ".venv", "bin", "python");

const prelort = (...args) => [process.execPath, "dist/cli/main.js", ...args];
const nodeTool = (name, ...args) => [path.join(root, "node_modules", ".bin", name), ...args];
const pythonTool = (...args) => [python, "-m", ...args];
const vitest = (...args) => nodeTool("vitest", "run", "--config", "test/vitest.config.ts", ...args);

const checks = {
  tsc: nodeTool("tsc", "-p", "tsconfig.json"),
  "tsc (page)": nodeTool("tsc", "-p", "src/ui/page/tsconfig.json"),
  oxlint: nodeTool("oxlint"),
  oxfmt: nodeTool("oxfmt", "--check"),
  "ruff check": pythonTool("ruff", "check"),
  "ruff format": pythonTool("ruff", "format", "--check"),
  pyright: nodeTool("pyright", "--pythonpath", python),
};
const tests = vitest("--project", "unit", "--project", "e2e");
const pytest = pythonTool("pytest");

/** What each npm script does, once the Node packages are there. */
const goals = {
  build: () => build(),
  quickstart() {
    build();
    must(prelort("setup"));
    must(prelort("run", "configs/quickstart.yaml", "--overwrite"));
  },
  check() {
    build();
    must(prelort("setup", "--dev", "--no-quickstart"));
    return runAll(checks);
  },
  test() {
    build();
    must(prelort("setup", "--dev"));
    return runAll({ vitest: tests }, { ...checks, pytest });
  },
  /** What follows on the command line is vitest's. */
  "test:cluster"() {
    build();
    must(prelort("setup", "--dev"));
    giveOwnPython("RAY", ".ray-venv", "test/cluster/requirements.txt");
    must(vitest("--project", "cluster", ...process.argv.slice(3)));
  },
  "test:trackers"() {
    build();
    must(prelort("setup", "--dev", "--no-quickstart", "--track", "tensorboard", "mlflow", "wandb", "trackio"));
    must(vitest("--project", "trackers", ...process.argv.slice(3)));
  },
  /** What follows on the command line is vitest's. */
  "test:gpu"() {
    build();
    must(prelort("setup", "--dev", "--no-quickstart"));
    must(vitest("--project", "gpu", "--reporter", "verbose", ...process.argv.slice(3)));
  },
  bench: () =>
    process.argv.includes("--gpu")
      ? campaign("bench", { setup: ["--no-quickstart"] })
      : campaign("bench", { prepare: () => giveOwnPython("FLOWER", ".bench/flower", "test/bench/requirements.txt") }),
  chaos: () => campaign("chaos"),
  fuzz: () => campaign("fuzz", { main: "test/fuzz/main.js", setup: ["--dev", "--no-quickstart"] }),
  format() {
    build();
    must(prelort("setup", "--dev", "--no-quickstart"));
    must([process.execPath, "dist/config/reference/write-files.js"]);
    must(nodeTool("oxfmt"));
    must(pythonTool("ruff", "check", "--fix-only"));
    must(pythonTool("ruff", "format"));
  },
};

/** One of the programs under test/ that take long; what follows on the command line is theirs. */
function campaign(name, { main = "main.js", setup = [], prepare = () => {} } = {}) {
  build();
  must(prelort("setup", ...setup));
  prepare();
  must(nodeTool("tsc", "-p", `test/${name}/tsconfig.json`));
  must([process.execPath, `.bench/${name}/${main}`, ...process.argv.slice(3)]);
}

/**
 * Names the Python of an environment of its own, beside that of `prelort setup`, in PRELORT_<WHAT>_PYTHON. It is made anew when its
 * requirements have changed.
 */
function giveOwnPython(what, folder, list) {
  const [own, stamp] = [path.join(root, folder, "bin", "python"), path.join(folder, "requirements.txt")];
  const requirements = readFileSync(path.join(root, list), "utf8");
  process.env[`PRELORT_${what}_PYTHON`] = own;
  if (modified(stamp) !== -1 && readFileSync(path.join(root, stamp), "utf8") === requirements) return;
  say(`installing ${list} into an environment of its own (${folder})`);
  rmSync(path.join(root, folder), { recursive: true, force: true });
  must(pythonTool("venv", folder), 3);
  must([own, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "-r", list], 3);
  writeFileSync(path.join(root, stamp), requirements);
}

// Ctrl-C goes to the child too, which ends in its own way; this process tells its exit code, so it outlasts it.
let isInterrupted = false;
process.on("SIGINT", () => (isInterrupted = true));
const goal = goals[process.argv[2]];
if (!goal) fail(2, `which of ${Object.keys(goals).join(", ")}? Got ${process.argv[2] ?? "nothing"}`);
requireNode();
installNodePackages();
await goal();

function requireNode() {
  const { engines } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  const [major, minor] = engines.node.replace(">=", "").split(".").map(Number);
  const [foundMajor, foundMinor] = process.versions.node.split(".").map(Number);
  if (foundMajor > major || (foundMajor === major && foundMinor >= minor)) return;
  fail(3, `Node ${engines.node} is needed, and this is ${process.versions.node}.\n  To fix it: install a later Node (https://nodejs.org)`);
}

/** npm writes its own lock file into node_modules last, so a missing or an older one means an install that is not this one. */
function installNodePackages() {
  if (modified("node_modules/.package-lock.json") >= modified("package-lock.json")) return;
  say("installing the Node packages (npm ci)");
  must(["npm", "ci", "--no-audit", "--no-fund"], 3);
}

/** Folders count too, so that a file which was removed is noticed. */
function build() {
  buildWebAssembly();
  const sources = ["src", ...readdirSync(path.join(root, "src"), { recursive: true }).map((name) => path.join("src", name))];
  const inputs = [...sources, "tsconfig.json", "tsconfig.build.json", "node_modules/.package-lock.json"];
  if (modified("dist/cli/main.js") >= Math.max(...inputs.map(modified))) return;
  say("building dist (tsc)");
  rmSync(path.join(root, "dist"), { recursive: true, force: true });
  buildPage();
  must(nodeTool("tsc", "-p", "tsconfig.build.json"));
  must([process.execPath, "dist/config/reference/write-hover-docs.js"]);
  finishDeclarations(path.join(root, "dist"));
  // npx links a checkout's command once; what it links to must stay executable.
  chmodSync(path.join(root, "dist/cli/main.js"), 0o755);
}

/** The page of `prelort ui`: modules as tsc writes them, which a browser loads one by one. It comes first, since both builds write the modules that they share. */
function buildPage() {
  const [source, target] = ["src/ui/page", path.join(root, "dist/ui/page")];
  must(nodeTool("tsc", "-p", `${source}/tsconfig.json`, "--noEmit", "false", "--noEmitOnError"));
  for (const name of readdirSync(path.join(root, source)).filter((file) => /\.(html|css|svg)$/.test(file))) {
    copyFileSync(path.join(root, source, name), path.join(target, name));
  }
}

/** Makes what tsc wrote readable to TypeScript 5.0 and to projects in CommonJS. */
function finishDeclarations(dist) {
  // A CommonJS file may not import declarations of an ES module, though Node lets it require the module itself.
  const commonjs = path.join(dist, "commonjs");
  for (const name of readdirSync(dist, { recursive: true }).filter((file) => file.endsWith(".d.ts"))) {
    // Typed arrays take no type parameter before TypeScript 5.7; these are its defaults.
    const text = readFileSync(path.join(dist, name), "utf8").replaceAll(/\b(\w+Array)<ArrayBuffer(?:Like)?>/g, "$1");
    writeFileSync(path.join(dist, name), text);
    writeFile(path.join(commonjs, name), text);
  }
  writeFile(path.join(commonjs, "package.json"), '{ "type": "commonjs" }\n');
  // zod's declarations name NoInfer, which TypeScript has had since 5.4. package.json gives older ones these entries.
  writeFile(path.join(dist, "no-infer.d.ts"), "type NoInfer<T> = T;\n");
  // Projects whose lib leaves out esnext.disposable lack these; where they are there, they merge with them.
  const symbol = "interface SymbolConstructor { readonly asyncDispose: unique symbol }\n";
  writeFile(path.join(dist, "disposable.d.ts"), `${symbol}interface AsyncDisposable { [Symbol.asyncDispose](): PromiseLike<void> }\n`);
  for (const entry of [".", "testing", "commonjs", "commonjs/testing"]) {
    const folder = path.join(dist, entry);
    const refer = (name) => `/// <reference path="${path.posix.join(path.relative(folder, dist) || ".", name)}" />\n`;
    const index = path.join(folder, "index.d.ts");
    writeFile(index, refer("disposable.d.ts") + readFileSync(index, "utf8"));
    writeFile(path.join(folder, "before-typescript-5.4.d.ts"), `${refer("no-infer.d.ts")}export * from "./index.ts";\n`);
  }
}

function writeFile(file, text) {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/** As modules that hold the bytes: what imports them need not know where files lie. */
function buildWebAssembly() {
  for (const name of ["fold", "matrix"]) compileAssembly(name);
}

function compileAssembly(name) {
  const [source, target] = [`src/tensor/${name}.assembly.ts`, `src/tensor/${name}.wasm.ts`];
  const inputs = [source, "src/provision.mjs", "node_modules/.package-lock.json"];
  if (modified(target) >= Math.max(...inputs.map(modified))) return;
  say("compiling WebAssembly (asc)");
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-build-"));
  try {
    const binary = path.join(folder, `${name}.wasm`);
    must(nodeTool("asc", source, "-o", binary, "-O3", "--noAssert", "--runtime", "stub", "--enable", "simd", "--importMemory"));
    const bytes = readFileSync(binary).toString("base64");
    writeFileSync(
      path.join(root, target),
      `/** Compiled from ${path.basename(source)}; base64. */\nexport const ${name}Module = "${bytes}";\n`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Runs every part, so that one failure does not hide the next. Those of `beside` run meanwhile, one after another, since each keeps one
 * core busy; what one prints is held until it has ended.
 */
async function runAll(parts, beside = {}) {
  const failed = (await Promise.all([inTurn(parts, runShown), inTurn(beside, runHeld)])).flat();
  if (isInterrupted) process.exit(130);
  const total = Object.keys({ ...parts, ...beside }).length;
  console.log(`\nparts: ${total - failed.length} passed, ${failed.length} failed`);
  if (failed.length > 0) fail(1, `failed: ${failed.join(", ")}`);
}

/** Names of the parts that failed. */
async function inTurn(parts, runPart) {
  const failed = [];
  for (const [name, command] of Object.entries(parts)) {
    if (!isInterrupted && (await runPart(name, command)) !== 0) failed.push(name);
  }
  return failed;
}

async function runShown(name, [file, ...args]) {
  say(name);
  return ended(spawn(file, args, { cwd: root, stdio: "inherit" }));
}

async function runHeld(name, [file, ...args]) {
  const child = spawn(file, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (more) => (text += more));
  const code = await ended(child);
  say(name);
  process.stdout.write(text);
  return code;
}

/** Resolves with the exit code once a child's output is complete too. */
function ended(child) {
  return new Promise((resolve) => {
    child.once("error", ({ message }) => {
      say(message);
      resolve(1);
    });
    child.once("close", (code) => resolve(code ?? 1));
  });
}

/** Runs a command, and ends with its exit code if that is not 0. */
function must(command, exitCode) {
  const code = run(command);
  if (code !== 0) fail(exitCode ?? code, `failed: ${command.join(" ")}`);
}

function run([file, ...args]) {
  const { status, signal, error } = spawnSync(file, args, { cwd: root, stdio: "inherit" });
  if (error) say(error.message);
  if (signal === "SIGINT") process.exit(130);
  return status ?? 1;
}

/** Milliseconds, or -1 for what is not there. */
function modified(name) {
  return statSync(path.join(root, name), { throwIfNoEntry: false })?.mtimeMs ?? -1;
}

function say(line) {
  console.log(`\n> ${line}`);
}

function fail(exitCode, message) {
  console.error(`prelort: ${message}`);
  process.exit(exitCode);
}
