import { createHash } from "node:crypto";

export const SAFETENSORS = ".safetensors";
/** Longest file name on the file systems of Linux and macOS, in bytes. */
const LONGEST_NAME = 255;

/** The name of a client's file. Its id may contain any characters, even half a surrogate pair, and be longer than a file name may be. */
export function clientFileName(clientId: string): string {
  const name = encodeURIComponent(clientId.replaceAll(/\p{Surrogate}/gu, "\ufffd")).replaceAll(".", "%2E");
  if (name.length + SAFETENSORS.length <= LONGEST_NAME) return `${name}${SAFETENSORS}`;
  // Cannot be the encoding of another id: there, hexadecimal digits follow a %.
  return `%sha256-${createHash("sha256").update(clientId).digest("hex")}${SAFETENSORS}`;
}
