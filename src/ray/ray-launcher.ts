import { argumentError, ConfigError } from "../errors.ts";
import { packageVersion } from "../installation.ts";
import { addressProblem } from "../config/cluster-address.ts";
import type { Channel } from "../workers/channels.ts";
import { clusterDevice } from "../workers/devices.ts";
import type { LaunchOptions, OpenChannel, WorkerLauncher } from "../workers/launch.ts";
import { jobsApi } from "./jobs-api.ts";
import { OpenRay } from "./open-ray.ts";
import { workerPackage } from "./package.ts";
import { JOB_TIMES, type JobPlan, type JobTimes } from "./ray-job.ts";

export interface RayLauncherOptions {
  /** Of the cluster's dashboard: `https://…`, or `http://…` to this machine, as through a tunnel. */
  readonly address: string;
  /** File with the token of a cluster that needs one. */
  readonly tokenFile?: string | undefined;
  /** What Ray reserves for each worker. With a GPU the worker's device is `cuda:0`, else `cpu`. Default: `{ CPU: 1 }`. */
  readonly resources?: Readonly<Record<string, number>> | undefined;
  /** Ray's runtime environment for the workers: `pip`, `env_vars`, `image_uri` and so on. Not for secrets: Ray shows it to all its users. */
  readonly runtimeEnv?: Readonly<Record<string, unknown>> | undefined;
  /** The workers' Python on the nodes. Default: the one that runs Ray there. */
  readonly python?: string | undefined;
  /** The run's name, for Ray's dashboard. */
  readonly run?: string | undefined;
  /** Allows `http://` to another machine: everybody on the network between can read the token and run code on the cluster. */
  readonly isTrusted?: boolean | undefined;
}

/**
 * Workers on a Ray cluster, which chooses the machines, waits for resources and scales. A job on it, which ends with the run,
 * starts and ends them; data goes between them and this process alone. Needs `workers.transport: tcp`, and an address of this
 * machine that the nodes can reach in `workers.advertise`. Throws a ConfigError for an address that is not safe to use.
 */
export function rayLauncher(options: RayLauncherOptions): WorkerLauncher {
  return timedRayLauncher(options, JOB_TIMES);
}

/** For tests, which do not wait as long. */
export function timedRayLauncher(options: RayLauncherOptions, times: JobTimes): WorkerLauncher {
  const { address, isTrusted = false, resources = { CPU: 1 } } = options;
  const problem = addressProblem(address, isTrusted);
  if (problem !== undefined) throw argumentError("address", problem);
  const device = clusterDevice(resources);
  return {
    isRemote: true,
    launch() {
      throw new Error("a Ray launcher is opened before it launches a worker");
    },
    open(openChannel: OpenChannel) {
      const api = jobsApi(options);
      return new OpenRay({ api, openChannel, device, times, plan: (first) => planOf(options, api, first) });
    },
  };
}

function planOf(
  { resources = { CPU: 1 }, runtimeEnv = {}, python, run = "" }: RayLauncherOptions,
  api: ReturnType<typeof jobsApi>,
  first: LaunchOptions,
): JobPlan {
  return {
    metadata: { prelort: packageVersion(), run },
    async prepare() {
      await api.version();
      const { name, zip } = await workerPackage();
      await api.upload(name, () => zip);
      return { ...runtimeEnv, working_dir: `gcs://${name}` };
    },
    entrypoint({ endpoint, serverKey, peer }: Channel) {
      if (serverKey === undefined)
        throw new ConfigError([{ path: "workers.transport", message: "must be tcp for workers on Ray, got ipc" }]);
      const options = {
        endpoint,
        "worker-id": peer,
        "server-key": serverKey,
        lease: first.lease,
        resources: JSON.stringify(toRay(resources)),
        ...(python !== undefined && { python }),
      };
      const words = ["python", "run.py", "prelort_worker.cluster.driver"];
      // A key may begin with a dash.
      words.push(...Object.entries(options).map(([name, value]) => `--${name}=${value}`));
      return words.map(quote).join(" ");
    },
  };
}

/** As an actor of Ray is asked for. */
function toRay({ CPU = 0, GPU = 0, ...others }: Readonly<Record<string, number>>) {
  return { num_cpus: CPU, num_gpus: GPU, resources: others };
}

/** A word of a shell command. */
function quote(word: string): string {
  return /^[\w./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
