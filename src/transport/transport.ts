/** Moves frames between the controller and its workers, without knowing their content. */
export interface Transport {
  /** Admits one worker under this name, which must be unique in the transport. */
  open(peer: string): Door;
  /**
   * Sends one frame. Resolves once the socket has taken it; rejects with a RefusedError if no such peer is
   * connected. Calls may overlap: one writer loop sends them in order.
   */
  send(peer: string, frame: Uint8Array): Promise<void>;
  /** Frames as they arrive, in owned memory. Ends when the transport is closed. For one reader. */
  receive(): AsyncIterable<{ readonly peer: string; readonly frame: Uint8Array }>;
  /** Also closes all doors. Safe to call twice. Waits for no peer and leaves no file behind. */
  close(): Promise<void>;
}

/** Where a worker connects. */
export interface Door {
  /** E.g. `ipc:///tmp/prelort-x/socket` or `tcp://127.0.0.1:49213`. */
  readonly endpoint: string;
  /** Keys that the worker must have, if reaching the endpoint is not enough to be admitted. */
  readonly curve?: CurveKeys | undefined;
  /** Call it once the worker's process is gone: it revokes the keys. Safe to call twice. */
  close(): void;
}

/** A worker's keys for ZeroMQ's CURVE, each in 40 characters of Z85. */
export interface CurveKeys {
  /** The controller's public key. */
  readonly serverKey: string;
  /** The worker's own pair. */
  readonly publicKey: string;
  /** Must not get into a command line, an environment variable or a log, which other users of the machine may read. */
  readonly secretKey: string;
}
