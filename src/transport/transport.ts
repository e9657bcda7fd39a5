/** Moves frames between the controller and its workers; knows nothing of what is in them. */
export interface Transport {
  /** Where workers connect, e.g. `ipc:///tmp/prelort-x/socket` or `tcp://127.0.0.1:49213`. */
  readonly endpoint: string;
  /**
   * Sends one frame. Resolves once the socket has taken it; rejects with a RefusedError if no such peer is
   * connected. Calls may overlap: one writer loop sends them in order.
   */
  send(peer: string, frame: Uint8Array): Promise<void>;
  /** Frames as they arrive, in owned memory. Ends when the transport is closed. For one reader. */
  receive(): AsyncIterable<{ readonly peer: string; readonly frame: Uint8Array }>;
  /** Safe to call twice. Waits for nothing that a peer has to do, and leaves no file behind. */
  close(): Promise<void>;
}
