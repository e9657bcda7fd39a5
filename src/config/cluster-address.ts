/** Why the API of a cluster must not be spoken to at this address; undefined if it may. A token, and code to run, are sent there. */
export function addressProblem(address: string, isTrusted: boolean): string | undefined {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (!url || (url.protocol !== "http:" && url.protocol !== "https:"))
    return `must be the address of the cluster's dashboard, such as http://127.0.0.1:8265, got ${JSON.stringify(address)}`;
  if (url.username !== "" || url.password !== "") return "must not contain a user or a password: a token is read from token_file";
  if (url.search !== "" || url.hash !== "") return `must end with a port or a path, got ${JSON.stringify(address)}`;
  if (url.protocol === "https:" || isTrusted || isLoopback(url.hostname)) return undefined;
  return (
    `is not encrypted and leads to another machine, ${url.hostname}: use https://, or a tunnel to it such as ` +
    `ssh -N -L 8265:127.0.0.1:8265 ${url.hostname} with http://127.0.0.1:8265, or declare the network trusted with trusted_network: true`
  );
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
}
