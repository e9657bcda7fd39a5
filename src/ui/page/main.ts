import type { SiteFacts } from "../messages.ts";
import { getJson } from "./api.ts";
import { ComparePage } from "./compare-page.ts";
import { setText } from "./dom.ts";
import { ListPage } from "./list-page.ts";
import { setControl } from "./permissions.ts";
import { RunPage } from "./run-page.ts";
import type { View } from "./view.ts";

/* The link's secret is in a cookie by now: it must stay neither in the history nor on the screen. */
if (location.search !== "") history.replaceState(null, "", `${location.pathname}${location.hash}`);

const main = document.getElementById("main") as HTMLElement;
let view: View | undefined;

function route(): void {
  view?.close();
  view = show(location.hash.slice(1));
  scrollTo(0, 0);
}

function show(address: string): View {
  const [path = "", query = ""] = address.split("?");
  if (path.startsWith("/run/")) return new RunPage(main, decode(path.slice("/run/".length)));
  if (path === "/compare") return new ComparePage(main, new URLSearchParams(query).getAll("run"));
  return new ListPage(main);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", () => {
  route();
  main.focus({ preventScroll: true });
});
try {
  const { folder, canControl } = await getJson<SiteFacts>("/api/site");
  setControl(canControl);
  setText(document.getElementById("folder") as HTMLElement, folder);
} catch {
  // What is shown asks again, and says why it gets no answer.
}
route();
