/* Asks the server that this page came from, and no other. */

export async function getJson<T>(path: string, parameters: readonly (readonly [string, string])[] = []): Promise<T> {
  return read(await fetch(addressOf(path, parameters), { credentials: "same-origin" }));
}

export async function post(path: string, parameters: readonly (readonly [string, string])[]): Promise<void> {
  await read(await fetch(addressOf(path, parameters), { method: "POST", credentials: "same-origin" }));
}

async function read<T>(response: Response): Promise<T> {
  if (response.ok) return (await response.json()) as T;
  const text = await response.text();
  let problem = text;
  try {
    problem = (JSON.parse(text) as { readonly error?: string }).error ?? text;
  } catch {
    // Refusals are plain text.
  }
  throw new Error(problem);
}

/** Relative to the page, which is in a folder of its own. */
function addressOf(path: string, parameters: readonly (readonly [string, string])[]): string {
  return parameters.length === 0 ? `.${path}` : `.${path}?${new URLSearchParams(parameters.map(([name, value]) => [name, value]))}`;
}

export interface Listening {
  close(): void;
}

/**
 * Listens to the server's events, from `from` on, and from the last one received after a lost connection. While the page is hidden
 * nothing is open: a browser opens only a few connections to one server.
 */
export function listen(
  path: string,
  {
    parameters = [],
    from,
    on,
  }: {
    readonly parameters?: readonly (readonly [string, string])[];
    readonly from: string;
    readonly on: Readonly<Record<string, (data: unknown) => void>>;
  },
): Listening {
  let source: EventSource | undefined;
  let last = from;
  const open = () => {
    source = new EventSource(addressOf(path, [...parameters, ["from", last]]));
    source.addEventListener("open", () => showConnection("live"));
    source.addEventListener("error", () => showConnection(source?.readyState === EventSource.CLOSED ? "lost" : "trying"));
    for (const [name, handle] of Object.entries(on)) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId !== "") last = event.lastEventId;
        handle(JSON.parse(event.data as string));
      });
    }
  };
  const close = () => {
    source?.close();
    source = undefined;
  };
  const follow = () => {
    if (document.hidden) close();
    else if (!source) open();
  };
  document.addEventListener("visibilitychange", follow);
  follow();
  return {
    close() {
      document.removeEventListener("visibilitychange", follow);
      close();
    },
  };
}

const WORDS = {
  live: "live",
  trying: "connection lost: trying again",
  lost: "connection lost: the program that served this page has ended, or its link is another; what is shown stays",
};

function showConnection(state: keyof typeof WORDS): void {
  const element = document.getElementById("connection");
  if (!element || element.dataset["state"] === state) return;
  element.dataset["state"] = state;
  element.textContent = WORDS[state];
}
