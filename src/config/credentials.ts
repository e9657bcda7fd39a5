import { toSnake } from "../base/case.ts";

/* Credentials of trackers stay in the environment variables that their clients read: a config is recorded, logged and shared. */

const SECRET = /(^|_)(api_?key|key|token|password|passwd|secret|credentials?|username|user|auth)($|_)/;

/** Whether a key's name is that of a credential. */
export function isCredential(key: string): boolean {
  return SECRET.test(toSnake(key).toLowerCase());
}

export const WHERE_CREDENTIALS_GO =
  "credentials are read from the environment, since a config is recorded: for wandb set WANDB_API_KEY; for mlflow set " +
  "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD";

/** What is wrong with an address that holds credentials; undefined if it holds none. Never quotes the address. */
export function credentialProblem(address: string): string | undefined {
  const [, authority = ""] = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(address) ?? [];
  // Of the query, and of the fragment, where browsers are given tokens.
  const query = new URLSearchParams(address.split(/[?#;]/).slice(1).join("&"));
  if (!authority.includes("@") && ![...query.keys()].some(isCredential)) return undefined;
  return `must not contain a user, a password or a token: ${WHERE_CREDENTIALS_GO}; or leave it out and set MLFLOW_TRACKING_URI`;
}
