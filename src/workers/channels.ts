import { decodeWorkerMessage, encode, type Frames } from "../protocol/codec.ts";
import type { ControllerMessage, WorkerMessage } from "../protocol/messages.ts";
import type { Door, Transport } from "../transport/transport.ts";

/** A connection to a program of a launcher's own, such as one that starts workers on a cluster. It joins as a worker does. */
export interface Channel extends Door {
  /** The name under which it joins. */
  readonly peer: string;
  /** Rejects with a RefusedError while it is not connected. */
  send(message: ControllerMessage): Promise<void>;
}

/** What a channel is told. */
export interface ChannelListener {
  message(message: WorkerMessage): void;
  /** The peer sent something that breaks the wire contract. */
  invalid(error: Error): void;
}

/** The channels of one pool. */
export class Channels {
  readonly #transport: Transport;
  readonly #listeners = new Map<string, ChannelListener>();
  #opened = 0;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  readonly open = (listener: ChannelListener): Channel => {
    const peer = `launcher-${this.#opened++}`;
    const door = this.#transport.open(peer);
    this.#listeners.set(peer, listener);
    return {
      ...door,
      peer,
      send: (message) => this.#transport.send(peer, ...encode(message)),
      close: () => {
        this.#listeners.delete(peer);
        door.close();
      },
    };
  };

  /** Frames of a peer without an open channel are dropped. */
  receive(peer: string, frames: Frames): void {
    const listener = this.#listeners.get(peer);
    if (!listener) return;
    let message: WorkerMessage;
    try {
      message = decodeWorkerMessage(...frames);
    } catch (error) {
      return listener.invalid(error as Error);
    }
    listener.message(message);
  }
}
