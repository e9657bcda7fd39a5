/** The key of a config that is at fault. */
export type RayOption =
  | "workers.advertise"
  | "workers.cluster"
  | "workers.cluster.address"
  | "workers.cluster.token_file"
  | "workers.cluster.runtime_env";

/** A request to Ray failed. */
export class RayError extends Error {
  readonly option: RayOption;
  /** It may work later. */
  readonly isPassing: boolean;
  /** Ray, or what is in front of it, says that it is not ready yet. */
  readonly isStarting: boolean;
  /** Of an HTTP answer. */
  readonly status: number | undefined;

  constructor(message: string, details: RayErrorDetails = {}) {
    const { option = "workers.cluster.address", isPassing = false, isStarting = false, status, cause } = details;
    super(message, { cause });
    this.name = "RayError";
    this.option = option;
    this.isPassing = isPassing || isStarting;
    this.isStarting = isStarting;
    this.status = status;
  }
}

interface RayErrorDetails {
  readonly option?: RayOption;
  readonly isPassing?: boolean;
  readonly isStarting?: boolean;
  readonly status?: number | undefined;
  readonly cause?: unknown;
}

/** Why there was no answer. */
export function connectionProblem(address: string, cause: NodeJS.ErrnoException, timeoutMs: number): RayError {
  const { hostname } = new URL(address);
  const code = cause.code ?? "";
  const fail = (problem: string, isPassing = false) => new RayError(problem, { isPassing, cause });
  if (cause.name === "AbortError" || cause.name === "TimeoutError" || code === "ETIMEDOUT")
    return fail(`${address} did not answer within ${timeoutMs / 1000} s: check the address, and that no firewall is between`, true);
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return fail(`${address} cannot be reached: there is no machine of the name ${hostname}`, code === "EAI_AGAIN");
  if (code === "ECONNREFUSED")
    return fail(
      `nothing listens at ${address}: check that the cluster's head runs, with ray start --head --dashboard-host, and that a tunnel is up`,
      true,
    );
  if (code === "EPROTO" || code.startsWith("ERR_SSL")) return fail(`${address} does not speak TLS: it may need http:// (${code})`);
  if (isCertificateProblem(code))
    return fail(`the certificate of ${address} is not accepted (${code}): NODE_EXTRA_CA_CERTS names a file with more authorities`);
  if (code.startsWith("HPE_")) return fail(`${address} does not speak HTTP: it is not the dashboard of a Ray cluster`);
  return fail(`${address} cannot be reached: ${cause.message}`, true);
}

function isCertificateProblem(code: string): boolean {
  return /CERT|SELF_SIGNED|UNABLE_TO_(VERIFY|GET)|ERR_TLS/.test(code);
}
