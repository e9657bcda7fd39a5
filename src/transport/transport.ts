import type { Frames } from "../protocol/codec.ts";

/** Moves messages between the controller and its workers, without knowing their content, except for how a worker joins. */
export interface Transport {
  /** Admits one worker under this name, which must be unique in the transport. */
  open(peer: string): Door;
  /**
   * Sends one message. Resolves once the socket has taken it, which may read its memory for as long as the transport is open;
   * rejects with a RefusedError if no such peer is connected. Calls may overlap: one writer loop sends them in order.
   */
  send(peer: string, ...frames: Frames): Promise<void>;
  /**
   * Messages as they arrive. The memory of all frames but the first may be freed once the next message is asked for. Ends when
   * the transport is closed. For one reader.
   */
  receive(): AsyncIterable<{ readonly peer: string; readonly frames: Frames }>;
  /** Also closes all doors. Safe to call twice. Waits for no peer and leaves no file behind. */
  close(): Promise<void>;
}

/** Where a worker connects. */
export interface Door {
  /** E.g. `ipc:///tmp/prelort-x/socket` or `tcp://10.0.0.5:49213`. */
  readonly endpoint: string;
  /**
   * The controller's public key, 40 characters of Z85, if reaching the endpoint is not enough to be admitted: the worker then
   * makes its own key pair, and is admitted once `admit` has listed its public key.
   */
  readonly serverKey?: string | undefined;
  /** The first key counts; throws a RefusedError for a second one. */
  admit(publicKey: string): void;
  /** Call it once the worker's process is gone: it revokes the key. Safe to call twice. */
  close(): void;
}
