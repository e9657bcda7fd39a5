import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { hashModule } from "../../../src/config/module-files.ts";

let folder: string;
beforeEach(() => void (folder = realpathSync(mkdtempSync(path.join(tmpdir(), "prelort-modules-")))));
afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  return createHash("sha256").update(text).digest("hex");
}

test("a module is hashed with all that it imports by relative paths, directly, indirectly and in a circle", async () => {
  const hashes = {
    "../shared/norm.mjs": write("shared/norm.mjs", 'export { mean } from "../mine/mine.mjs";\n'),
    "lib/constants.json": write("mine/lib/constants.json", '{ "from": "./not-code.mjs" }'),
    "lib/late.mjs": write("mine/lib/late.mjs", "export const late = 1;\n"),
    "lib/old.cjs": write("mine/lib/old.cjs", 'module.exports = require("./older");\n'),
    "lib/older.js": write("mine/lib/older.js", ""),
    "mine.mjs": write(
      "mine/mine.mjs",
      `import { prefix } from "prelort";
import * as fs from "node:fs";
import "../shared/norm.mjs";
import constants from './lib/constants.json' with { type: "json" };
import old, {
  other,
} from "./lib/old.cjs";
export const mean = async () => import(\`./lib/late.mjs\`);
const computed = import("./lib/" + "computed.mjs");
const absent = "./not-there.mjs";
`,
    ),
  };
  write("mine/lib/computed.mjs", "");
  write("mine/lib/not-code.mjs", "");
  expect(await hashModule(path.join(folder, "mine/mine.mjs"))).toEqual(hashes);
});

test("a module that is missing is refused", async () => {
  await expect(hashModule(path.join(folder, "none.mjs"))).rejects.toMatchObject({ code: "ENOENT" });
});

test.each([
  ['import { x } from /* of mine */ "./a b.mjs";', "a comment"],
  ['import { x } from // of mine\n "./a b.mjs";', "a comment to the end of the line"],
  ['import { x } from "./a%20b.mjs";', "an encoded space"],
  ['import { x } from "./a b.mjs?version=2#part";', "a query"],
  ['import { x } from "FOLDER/a b.mjs";', "an absolute path"],
  ['import { x } from "file://FOLDER/a%20b.mjs";', "a file URL"],
])("%s is found: with %s", async (source) => {
  const a = write("a b.mjs", "export const x = 1;\n");
  const mine = write("mine.mjs", source.replace("FOLDER", folder));
  expect(await hashModule(path.join(folder, "mine.mjs"))).toEqual({ "a b.mjs": a, "mine.mjs": mine });
});

test("what a symbolic link leads to imports from its own folder", async () => {
  const hashes = {
    "elsewhere/deep.mjs": write("elsewhere/deep.mjs", ""),
    "elsewhere/real.mjs": write("elsewhere/real.mjs", 'import "./deep.mjs";\n'),
    "mine.mjs": write("mine.mjs", 'import "./link.mjs";\n'),
  };
  symlinkSync(path.join(folder, "elsewhere/real.mjs"), path.join(folder, "link.mjs"));
  expect(await hashModule(path.join(folder, "mine.mjs"))).toEqual(hashes);
});
