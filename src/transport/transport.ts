/** Moves frames between the controller and its workers; knows nothing of what is in them. */
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
  /** E.g. `ipc:///tmp/prelort-x/socket` or `tcp://127.0.0.1:49213`. */
  readonly endpoint: string;
  /** What it must prove to have, where whoever can reach the endpoint is not let in for that alone. */
  readonly curve?: CurveKeys | undefined;
  /** To be called once the worker's process is gone: its keys are worth nothing any more. Safe to call twice. */
  close(): void;
}

/** A worker's keys of ZeroMQ's CURVE, each in 40 characters of Z85. */
export interface CurveKeys {
  /** The controller's public key. */
  readonly serverKey: string;
  /** The worker's own pair. */
  readonly publicKey: string;
  /** Not for a command line, an environment variable or a log: other users of the machine read those. */
  readonly secretKey: string;
}
