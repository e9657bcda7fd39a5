import { z } from "zod";
import { credentialProblem } from "./credentials.ts";
import { orName } from "./or-name.ts";

/* The `track` section: the trackers that a run's params, metrics and state are delivered to. */

export const TRACKERS = ["tensorboard", "mlflow", "wandb", "trackio"] as const;
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
    name: z.literal("wandb").describe("Weights & Biases: its server, or files that wandb sync sends there later."),
    project: text.optional().describe("Name of the project. Default: WANDB_PROJECT, else prelort."),
    entity: text.optional().describe("User or team that the project is of. Default: WANDB_ENTITY, else that of the credentials."),
    group: text.optional().describe("Name of a group of runs. Default: WANDB_RUN_GROUP, else none."),
    tags: z.array(text.max(64)).readonly().optional().describe("Tags of the run. Default: those of WANDB_TAGS."),
    runName: text.optional().describe("Name of the run there. Default: the run's name."),
    mode: z
      .enum(["online", "offline"])
      .optional()
      .describe("offline keeps everything in the folder wandb of the run's folder, for wandb sync. Default: WANDB_MODE, else online."),
  }),
  z.strictObject({
    name: z.literal("trackio").describe("Trackio's store on this machine."),
    project: text.optional().describe("Name of the project. Default: prelort."),
  }),
]);

/** A tracker with its options. */
export type TrackerSpec = z.output<typeof tracker>;

export const track = z
  .array(orName(tracker))
  .refine((list) => new Set(list.map(({ name }) => name)).size === list.length, "lists a tracker twice: a run goes to each one once")
  .readonly();
