import type { IncomingMessage, ServerResponse } from "node:http";

/** A response that stays open and to which events are written (server-sent events). */
export interface EventSink {
  /** Aborted once nobody listens any more. */
  readonly signal: AbortSignal;
  /** Id of the last event that the browser got before it lost the connection. */
  readonly lastEventId: string | undefined;
  /** Resolves once the browser can take more. `id` is what a later connection is asked to continue after. */
  send(data: unknown, options?: { readonly id?: string | number; readonly event?: string }): Promise<void>;
}

/** So that proxies and this process notice a connection that is gone. */
const BEAT_MS = 15_000;

export function openEvents(request: IncomingMessage, response: ServerResponse): EventSink {
  const controller = new AbortController();
  const beat = setInterval(() => response.write(": \n\n"), BEAT_MS).unref();
  response.once("close", () => {
    clearInterval(beat);
    controller.abort();
  });
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.write("retry: 1000\n\n");
  return {
    signal: controller.signal,
    lastEventId: header(request, "last-event-id"),
    async send(data, { id, event } = {}) {
      if (controller.signal.aborted) return;
      const head = `${event === undefined ? "" : `event: ${event}\n`}${id === undefined ? "" : `id: ${id}\n`}`;
      if (response.write(`${head}data: ${JSON.stringify(data)}\n\n`)) return;
      await new Promise<void>((resolve) => {
        const done = () => {
          response.off("drain", done);
          controller.signal.removeEventListener("abort", done);
          resolve();
        };
        response.on("drain", done);
        controller.signal.addEventListener("abort", done);
      });
    },
  };
}

function header({ headers }: IncomingMessage, name: string): string | undefined {
  const value = headers[name];
  return typeof value === "string" && value.length < 100 ? value : undefined;
}
