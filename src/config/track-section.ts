import { z } from "zod";
import { credentialProblem } from "./credentials.ts";

/* The `track` section: the trackers that a run's params, metrics and state are delivered to. */

export const TRACKERS = ["tensorboard", "mlflow", "trackio"] as const;
export type TrackerName = (typeof TRACKERS)[number];

const text = z.string().min(1);

const trackingUri = text.superRefine((uri, context) => {
  const message = credentialProblem(uri);
  if (message !== undefined) context.addIssue({ code: "custom", message });
});

const tracker = z.discriminatedUnion("name", [
  z.strictObject({
    name: z.literal("tensorboard").describe("Event files for TensorBoard."),
    folder: text
      .optional()
      .describe("Folder for this run's event files, relative to the working directory. Default: tensorboard in the run's folder."),
  }),
  z.strictObject({
    name: z.literal("mlflow").describe("An MLflow tracking server, or a local store of it."),
    trackingUri: trackingUri
      .optional()
      .describe(
        "Address of the tracking server, or of a local store. Default: MLFLOW_TRACKING_URI, else mlflow.db in the working directory.",
      ),
    experiment: text.optional().describe("Name of the experiment; made if it is not there. Default: MLFLOW_EXPERIMENT_NAME, else prelort."),
    runName: text.optional().describe("Name of the run there. Default: the run's name."),
  }),
  z.strictObject({
    name: z.literal("trackio").describe("Trackio's store on this machine."),
    project: text.optional().describe("Name of the project. Default: prelort."),
  }),
]);

/** A tracker with its options. */
export type TrackerSpec = z.output<typeof tracker>;

const { $schema: _, ...trackerSchema } = z.toJSONSchema(tracker, { io: "input", target: "draft-7" });

/** A bare name stands for the tracker without options. A union of both would describe a wrong option as a wrong name. */
const named = z
  .preprocess((value) => (TRACKERS.some((known) => known === value) ? { name: value } : value), tracker)
  .meta({ anyOf: [{ type: "string", enum: [...TRACKERS] }, trackerSchema] }) as unknown as z.ZodPipe<
  z.ZodUnion<readonly [z.ZodType<TrackerName, TrackerName>, typeof tracker]>,
  typeof tracker
>;

export const track = z
  .array(named)
  .refine((list) => new Set(list.map(({ name }) => name)).size === list.length, "lists a tracker twice: a run goes to each one once")
  .readonly();
