import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { packageRoot } from "../../src/installation.ts";

/** A Markdown file of the repository; `name` is its path there, with slashes. */
export interface Document {
  readonly name: string;
  readonly text: string;
}

const skipped = /^(\.|node_modules$|dist$|runs$)/;

function* markdownFiles(folder: string): Generator<string> {
  for (const entry of readdirSync(path.join(packageRoot(), folder), { withFileTypes: true })) {
    const name = path.posix.join(folder, entry.name);
    if (entry.isDirectory() && !skipped.test(entry.name)) yield* markdownFiles(name);
    else if (entry.isFile() && entry.name.endsWith(".md")) yield name;
  }
}

export const documents: readonly Document[] = [...markdownFiles(".")].toSorted().map(readDocument);

export function readDocument(name: string): Document {
  return { name, text: readFileSync(path.join(packageRoot(), name), "utf8") };
}

/** Code blocks in one language. */
export function snippets({ text }: Document, language: string): readonly string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, "gm"))].map(([, code = ""]) => code);
}

/** The text without its code blocks. */
export function proseOf({ text }: Document): string {
  return text.replaceAll(/^```[^]*?^```/gm, "");
}

export function inlineCode(document: Document): readonly string[] {
  return [...proseOf(document).matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => code);
}

/** Targets of links and images, except web addresses. */
export function localLinks(document: Document): readonly string[] {
  const links = proseOf(document)
    .replaceAll(/`[^`\n]*`/g, "``")
    .matchAll(/\]\(([^)\s]+)\)/g);
  return [...links].map(([, target = ""]) => target).filter((target) => !/^[a-z]+:/.test(target));
}

/** Anchors of all headings, as GitHub makes them. */
export function anchors(document: Document): readonly string[] {
  const headings = [...proseOf(document).matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1"),
  );
  const slugs = headings.map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
  return slugs.map((slug, index) => {
    const before = slugs.slice(0, index).filter((other) => other === slug).length;
    return before === 0 ? slug : `${slug}-${before}`;
  });
}

/** Splits a link into the file it names, as a path in the repository, and its anchor. */
export function resolveLink({ name }: Document, target: string): { readonly file: string; readonly anchor: string | undefined } {
  const [file = "", anchor] = target.split("#");
  return { file: file === "" ? name : path.posix.join(path.posix.dirname(name), file), anchor };
}
