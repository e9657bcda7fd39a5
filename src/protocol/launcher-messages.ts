import { z } from "zod";
import { count, list, positive, session, text, workerId } from "./fields.ts";

/* To and from a launcher's own program that starts workers on a cluster. It joins as a worker does. */

export const launcherRequests = [
  /** Starts a worker, on none of the nodes in `avoid` as long as there are others. */
  z.strictObject({
    ...session,
    type: z.literal("launch"),
    worker_id: workerId,
    device: z.string(),
    threads: positive,
    avoid: list(z.string()),
  }),
  /** Ends a worker at once. Nothing happens if it is gone. */
  z.strictObject({ ...session, type: z.literal("kill"), worker_id: workerId }),
] as const;

export const launcherReports = [
  /** The worker's process runs, and has made its key pair. */
  z.strictObject({
    ...session,
    type: z.literal("placed"),
    worker_id: workerId,
    host: z.string().max(255),
    /** The cluster's name for that machine. */
    node: z.string().max(255),
    public_key: z.string().max(200),
  }),
  /** The worker's process is gone, or could not be started; `log` is the end of its output. */
  z.strictObject({
    ...session,
    type: z.literal("exited"),
    worker_id: workerId,
    exit_code: count.nullable(),
    signal: z.string().max(50).nullable(),
    problem: text.nullable(),
    log: text,
  }),
  /** What its launches wait for, in words; empty if for nothing. */
  z.strictObject({ ...session, type: z.literal("waiting"), reason: text }),
] as const;
