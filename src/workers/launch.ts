import type { Channel, ChannelListener } from "./channels.ts";

/**
 * Starts worker processes. What is started must connect to `endpoint` as `workerId`; see the wire contract. The laws that every
 * launcher keeps are tests: test/support/launcher-laws.ts.
 */
export interface WorkerLauncher {
  /**
   * Workers run elsewhere. Each may first wait for a place, as in a cluster's queue, so the time that it may take to start counts
   * from its public key on; and one that cannot start says nothing about the others.
   */
  readonly isRemote?: boolean | undefined;
  launch(options: LaunchOptions): WorkerProcess;
  /**
   * For launchers that need a program of their own elsewhere. Called once by each pool: what it returns launches that pool's
   * workers.
   */
  open?(openChannel: OpenChannel): OpenLauncher;
}

/** Throws an EnvironmentError where the transport cannot have more than workers. */
export type OpenChannel = (listener: ChannelListener) => Channel;

export interface OpenLauncher extends Pick<WorkerLauncher, "launch" | "isRemote"> {
  /** Called once no worker is left. Ends whatever else the launcher has started, and waits for it, for seconds at most. Never rejects. */
  close(): Promise<void>;
}

export interface LaunchOptions {
  readonly workerId: string;
  /** Which of the pool's workers it is, counted from 0; one that replaces another has its number. */
  readonly index: number;
  readonly endpoint: string;
  /**
   * Over tcp the controller's public key, 40 characters of Z85. Then the worker makes a key pair of its own, and what is
   * launched gives its `publicKey`.
   */
  readonly serverKey?: string | undefined;
  /** Over tcp, how many seconds the worker may be without the controller before it must end itself. */
  readonly lease: number;
  /** `cpu`, `mps` or `cuda:N`. */
  readonly device: string;
  /** Torch threads. */
  readonly threads: number;
  /** Where its standard output and error go. */
  readonly logPath: string;
  /** To be called whenever it changes what the start waits for, in words: "Ray has 0 of 4 GPU free". */
  onWaiting?(reason: string): void;
}

export interface WorkerProcess {
  /** Of a process on this machine, with which memory can be shared; without it tensors go through the transport alone. */
  readonly pid?: number | undefined;
  /** Over tcp: resolves with the worker's public key, 40 characters of Z85, as soon as its process runs and has made it. */
  readonly publicKey?: Promise<string> | undefined;
  /** Resolves once the process is gone; never rejects. */
  readonly exited: Promise<WorkerExit>;
  /**
   * Ends the process and its children at once, stopped ones too. Does nothing once it is gone. `isLost`: nothing has been heard
   * of it, so its machine may be out of reach. `exited` must not wait for it then, and another machine should be preferred for
   * the next worker.
   */
  kill(isLost?: boolean): void;
}

export interface WorkerExit {
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  /** Why it could not even be started; or, if it was, why it is lost. */
  readonly problem?: string | undefined;
  /** What the user has to change, if no other worker could be started either. */
  readonly cause?: Error | undefined;
  /** The machine that it ran on, if that may be another one. */
  readonly host?: string | undefined;
}
