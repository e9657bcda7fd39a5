/* What a browser's EventSource does, as far as the tests of services need it. */

export interface ServerEvent {
  readonly number: number;
  readonly type: string;
  readonly kind?: string;
  readonly round?: number;
}

/** The events of one response. Leaving the loop drops the connection. */
export async function* serverEvents(response: Response): AsyncGenerator<ServerEvent, void> {
  let text = "";
  for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
    const blocks = `${text}${piece}`.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => line.split(/: (.*)/s, 2) as [string, string]));
      const event = JSON.parse(fields.get("data") ?? "null") as ServerEvent | null;
      if (!event) continue;
      if (fields.get("id") !== `${event.number}`) throw new Error(`event ${event.number} has the id ${fields.get("id")}`);
      yield event;
    }
  }
}

/** A reader that comes back with the number of the last event it saw. */
export class Reader {
  readonly seen: ServerEvent[] = [];

  /** One connection, which is dropped after `most` events. False if the server has no more events, or is gone. */
  async connect(url: string, most = Infinity): Promise<boolean> {
    const last = this.seen.at(-1)?.number;
    try {
      const response = await fetch(url, { headers: last === undefined ? {} : { "last-event-id": `${last}` } });
      if (response.status === 204) return false;
      if (!response.ok) throw new Error(`${url} answered with ${response.status}: ${await response.text()}`);
      let count = 0;
      for await (const event of serverEvents(response)) {
        this.seen.push(event);
        if (++count >= most) break;
      }
      return true;
    } catch (error) {
      // Undici's error for a connection that was refused, or closed in the middle.
      if (error instanceof TypeError) return false;
      throw error;
    }
  }

  /** Comes back until the server has no more events. */
  async readAll(url: string, firstDrop = Infinity): Promise<void> {
    for (let most = firstDrop; await this.connect(url, most); most = Infinity);
  }

  async readUntil(url: string, isLast: (event: ServerEvent) => boolean): Promise<void> {
    const last = this.seen.at(-1)?.number;
    const response = await fetch(url, { headers: last === undefined ? {} : { "last-event-id": `${last}` } });
    for await (const event of serverEvents(response)) {
      this.seen.push(event);
      if (isLast(event)) return;
    }
    throw new Error(`${url} ended before the event that was waited for`);
  }
}
