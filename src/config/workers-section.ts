import { z } from "zod";
import { integer, positive } from "./policy-specs.ts";

/* The `workers` section: the processes that train and evaluate, and how they are reached. */

export const seconds = z
  .number()
  .positive()
  .max(7 * 24 * 3600);

type Device = "cpu" | "mps" | `cuda:${number}`;
const DEVICE = /^(cpu|mps|cuda:\d+)$/;
const device = z
  .custom<Device>((value) => typeof value === "string" && DEVICE.test(value), {
    error: ({ input }) => `must be cpu, mps or cuda:N, got ${JSON.stringify(input)}`,
    abort: false,
  })
  .meta({ type: "string", pattern: DEVICE.source });

const port = positive.max(65535);
const address = z.string().regex(/^[\w.:%-]+$/, "a name or an address, without a port, brackets or spaces");

const mostWorkers = positive.max(1024);

/** Where workers run that a cluster starts. */
const cluster = z.strictObject({
  name: z.literal("ray").describe("The cluster's software: ray."),
  address: z.string().min(1).describe("Address of the cluster's dashboard: https://…, or http://127.0.0.1:8265 through a tunnel."),
  tokenFile: z.string().min(1).optional().describe("File with the cluster's token, if it needs one."),
  resources: z
    .record(z.string().min(1), z.number().positive())
    .default({ CPU: 1 })
    .describe("What the cluster reserves for each worker, such as { CPU: 4, GPU: 1 }. With a GPU the workers use it, else the CPU."),
  count: z
    .union([
      mostWorkers,
      z.strictObject({
        min: mostWorkers.describe("Number of workers that must be ready before training starts."),
        max: mostWorkers.describe("Number of workers that the cluster is asked for."),
      }),
    ])
    .describe(
      "Number of workers: training starts with the first of them. Or { min, max }: it starts with min, and goes up to max as the cluster has room.",
    ),
  runtimeEnv: z
    .record(z.string(), z.unknown())
    .optional()
    .describe("Ray's runtime environment for the workers, such as { env_vars: { HF_HOME: /hub } }. Not for secrets."),
  trustedNetwork: z
    .boolean()
    .default(false)
    .describe("Allow http:// to another machine, where anybody on the network can read the token and run code on the cluster."),
});

export const workers = z.strictObject({
  count: positive
    .max(256)
    .optional()
    .describe("Total number of workers, assigned to the devices in rotation. Default: slots_per_device on each device of each host."),
  slotsPerDevice: positive
    .max(64)
    .optional()
    .describe("Workers on each device, as an alternative to count; prelort plan --measure proposes a number. Default: 1."),
  devices: z
    .union([z.literal("auto"), z.array(device).min(1)])
    .default("auto")
    .describe("Devices, or auto: every CUDA device, else mps, else cpu."),
  mixedDevices: z
    .boolean()
    .default(false)
    .describe("Allow workers on different kinds of processors or GPUs. The same seed then no longer gives the same bytes."),
  threads: positive.default(1).describe("PyTorch threads of each worker. Part of the run's identity: it changes the order of sums."),
  python: z
    .string()
    .min(1)
    .optional()
    .describe(
      "Python interpreter. Default: that of the environment that prelort setup creates; on a cluster, the one that runs Ray there.",
    ),
  transport: z
    .enum(["ipc", "tcp"])
    .default("ipc")
    .describe("How controller and workers connect: ipc by a Unix socket on one machine, tcp over a network, encrypted."),
  host: address
    .optional()
    .describe("With tcp: the address of this machine at which the controller listens, or 0.0.0.0 for all. Default: 127.0.0.1."),
  advertise: address.optional().describe("With tcp: the name or address by which workers reach the controller. Default: host."),
  ports: z
    .array(port)
    .length(2)
    .optional()
    .describe("With tcp: the first and last port that the controller may listen at; it takes one. Default: any free port."),
  command: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe("Command that starts a worker elsewhere, such as [ssh, '{host}'] or [srun, -n1]; the worker's own command is appended."),
  hosts: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe("What {host} in workers.command stands for, in rotation. Every host has the same devices."),
  cluster: cluster.optional().describe("A Ray cluster that runs the workers."),
  retries: integer.min(0).max(100).default(2).describe("How often a failed task is retried, on another worker if there is one."),
  startTimeout: seconds.default(180).describe("Seconds a worker may take to start."),
  beatTimeout: seconds.default(30).describe("Seconds without a heartbeat after which a worker is replaced."),
  taskTimeout: seconds.default(600).describe("Seconds without progress in a task after which its worker is replaced."),
});
