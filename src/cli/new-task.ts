import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { Command } from "commander";
import { argumentError } from "../errors.ts";
import { packageRoot } from "../installation.ts";
import { print } from "./output.ts";

/** The files of the template: a task in Python, its config, its data. */
const TEMPLATE = ["py", "yaml", "csv"] as const;
/** Python itself refuses its keywords. */
const MODULE = /^[a-z][a-z0-9_]{0,49}$/;

export function newTaskCommand(): Command {
  return new Command("new-task")
    .description("write a task of your own to start from: NAME.py, NAME.yaml and NAME.csv, which run as they are")
    .argument("<name>", "name of the Python module, such as my_task")
    .option("--in <folder>", "folder to write to", ".")
    .action(async (name: string, { in: folder }: { in: string }) => {
      const files = await writeTask(name, folder);
      const [task, config] = files.map((file) => path.relative(".", file));
      print(
        `wrote ${files.map((file) => path.relative(".", file)).join(", ")}\n` +
          `  try it:   npx prelort run ${config}\n` +
          `  then put your model, data, loss and metrics into ${task}`,
      );
    });
}

/** Writes the three files, none of which may exist yet. Returns their paths. */
export async function writeTask(name: string, folder: string): Promise<readonly string[]> {
  if (!MODULE.test(name)) {
    const message = `must be a Python module's name (lower-case letters, digits and _, a letter first), got ${JSON.stringify(name)}`;
    throw argumentError("name", message);
  }
  const className = name.replace(/(?:^|_)([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  const source = path.join(packageRoot(), "configs", "new-task");
  const files = TEMPLATE.map((kind) => path.resolve(folder, `${name}.${kind}`));
  const contents = await Promise.all(TEMPLATE.map((kind) => readFile(path.join(source, `new_task.${kind}`), "utf8")));
  for (const [index, file] of files.entries()) {
    const text = (contents[index] ?? "").replaceAll("new_task", name).replaceAll("NewTask", className);
    await writeFile(file, text, { flag: "wx" }).catch((error: NodeJS.ErrnoException) => {
      const problem = error.code === "EEXIST" ? "already exists; choose another name or remove it" : error.message;
      throw argumentError(path.relative(".", file), problem);
    });
  }
  return files;
}
