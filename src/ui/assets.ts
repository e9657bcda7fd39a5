import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { packageRoot } from "../installation.ts";
import { PALETTE } from "../report/palette.ts";

/** What the page itself consists of: nothing else of this machine can be asked for as a file. */
export interface Asset {
  readonly type: string;
  /** Absolute path, or the text itself. */
  readonly source: { readonly file: string } | { readonly text: string };
}

const TYPES: Readonly<Record<string, string>> = {
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Modules of the server that the page runs, too. */
const SHARED = [
  "report/best-words.js",
  "report/format.js",
  "report/metric-names.js",
  "report/palette.js",
  "report/sample-answers.js",
  "report/visible.js",
  "ui/timeline.js",
  "ui/worker-memory.js",
];

/** By the path of their address. Modules keep their places, so that they find one another by relative paths. */
export function findAssets(): ReadonlyMap<string, Asset> {
  const dist = path.join(packageRoot(), "dist");
  const page = readdirSync(path.join(dist, "ui/page")).map((name) => `ui/page/${name}`);
  const files = [...page, ...SHARED].flatMap((name) => {
    const type = TYPES[path.extname(name)];
    return type === undefined ? [] : [[`/app/${name}`, { type, source: { file: path.join(dist, name) } }] as const];
  });
  const charts = path.join(path.dirname(createRequire(import.meta.url).resolve("uplot/package.json")), "dist");
  const vendored = "/app/ui/page/vendor/uplot.js";
  const modules = [...files.map(([address]) => address), vendored].filter((address) => address.endsWith(".js"));
  return new Map<string, Asset>([
    ...files,
    [
      INDEX,
      {
        type: TYPES[".html"] as string,
        source: { text: preloading(readFileSync(path.join(dist, "ui/page/index.html"), "utf8"), modules) },
      },
    ],
    [vendored, { type: TYPES[".js"] as string, source: { file: path.join(charts, "uPlot.esm.js") } }],
    ["/app/ui/page/vendor/uplot.css", { type: TYPES[".css"] as string, source: { file: path.join(charts, "uPlot.min.css") } }],
    ["/app/ui/page/palette.css", { type: TYPES[".css"] as string, source: { text: `:root {\n  ${PALETTE}\n}\n` } }],
  ]);
}

/** The page itself. */
export const INDEX = "/app/ui/page/index.html";

/** Has the browser ask for all modules at once, not for each when another imports it. */
function preloading(html: string, modules: readonly string[]): string {
  const links = modules.map((address) => `<link rel="modulepreload" href="${address.slice(1)}" />`);
  return html.replace("</head>", `${links.join("")}</head>`);
}
