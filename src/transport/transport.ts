/** Moves frames between the controller and its workers; knows nothing of what is in them, but for how a worker joins. */
export interface Transport {
  /** Lets one worker in, under this name, which nobody else in the transport has. */
  open(peer: string): Door;
  /**
   * Sends one frame. Resolves once the socket has taken it; rejects with a RefusedError if no such peer is
   * connected. Calls may overlap: one writer loop sends them in order.
   */
  send(peer: string, frame: Uint8Array): Promise<void>;
  /** Frames as they arrive, in owned memory. Ends when the transport is closed. For one reader. */
  receive(): AsyncIterable<{ readonly peer: string; readonly frame: Uint8Array }>;
  /** Closes all doors too. Safe to call twice. Waits for nothing that a peer has to do, and leaves no file behind. */
  close(): Promise<void>;
}

/** Where a worker connects. */
export interface Door {
  /** E.g. `ipc:///tmp/prelort-x/socket` or `tcp://10.0.0.5:49213`. */
  readonly endpoint: string;
  /**
   * The controller's public key, 40 characters of Z85, where whoever can reach the endpoint is not let in for that
   * alone: then the worker makes a key pair of its own, and gets in once `admit` has listed its public key.
   */
  readonly serverKey?: string | undefined;
  /** The first key counts; throws a RefusedError for a second one. */
  admit(publicKey: string): void;
  /** To be called once the worker's process is gone: from then on its key is worth nothing. Safe to call twice. */
  close(): void;
}
