import { readFile } from "node:fs/promises";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connectionProblem, type RayOption, RayError } from "./ray-error.ts";

/** How the API of a Ray cluster is reached. */
export interface RayAddress {
  /** Of the cluster's dashboard, such as `https://ray.example.com` or `http://127.0.0.1:8265`. */
  readonly address: string;
  /** File with the cluster's token. It is read for each request, since tokens are replaced. */
  readonly tokenFile?: string | undefined;
}

export interface RayRequest {
  readonly method: "GET" | "POST" | "PUT";
  /** Such as `/api/version`. */
  readonly path: string;
  readonly body?: Uint8Array | undefined;
  readonly contentType?: string | undefined;
  readonly timeoutMs: number;
  /** Breaks it off. */
  readonly signal?: AbortSignal | undefined;
}

export interface RayAnswer {
  readonly status: number;
  readonly body: string;
}

/** A longer answer is refused. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/**
 * One request, by `node:http`: Ray refuses `fetch` as browser traffic. Rejects with a RayError if there is no answer, or one
 * that refuses the token.
 */
export async function askRay({ address, tokenFile }: RayAddress, asked: RayRequest): Promise<RayAnswer> {
  const token = tokenFile === undefined ? undefined : await readToken(tokenFile);
  let answer: RayAnswer;
  try {
    answer = await exchange(address, token, asked);
  } catch (error) {
    throw error instanceof RayError ? error : connectionProblem(address, error as NodeJS.ErrnoException, asked.timeoutMs);
  }
  if (answer.status === 401 || answer.status === 403) throw refusedToken(address, tokenFile, answer.status);
  return answer;
}

async function readToken(tokenFile: string): Promise<string> {
  const refuse = (problem: string) => new RayError(problem, { option: "workers.cluster.token_file" });
  const text = await readFile(tokenFile, "utf8").catch((error: NodeJS.ErrnoException) => {
    throw refuse(`${tokenFile} cannot be read: ${error.code ?? error.message}`);
  });
  const token = text.trim();
  // Never in an error: a token of several lines would be one, in Node's message on an invalid header.
  if (!/^[\x21-\x7e]+$/.test(token)) throw refuse(`${tokenFile} must hold the cluster's token alone, on one line`);
  return token;
}

function exchange(address: string, token: string | undefined, asked: RayRequest) {
  const { method, path, body, contentType, timeoutMs, signal = new AbortController().signal } = asked;
  const url = new URL(`${address.replace(/\/+$/, "")}${path}`);
  const headers = {
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
    ...(body && { "content-type": contentType ?? "application/json", "content-length": body.byteLength }),
  };
  const request = url.protocol === "https:" ? httpsRequest : httpRequest;
  return new Promise<RayAnswer>((resolve, reject) => {
    // Without an agent of its own it keeps no connection open.
    const sent = request(url, {
      method,
      headers,
      agent: false,
      signal: AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(timeoutMs))]),
    });
    sent.once("error", reject);
    sent.once("response", (response) => {
      readAnswer(response, address).then((text) => resolve({ status: response.statusCode ?? 0, body: text }), reject);
    });
    sent.end(body);
  });
}

async function readAnswer(response: IncomingMessage, address: string): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > MAX_ANSWER_BYTES) throw new RayError(`${address} sent an answer of more than ${MAX_ANSWER_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function refusedToken(address: string, tokenFile: string | undefined, status: number): RayError {
  const option: RayOption = "workers.cluster.token_file";
  if (tokenFile === undefined)
    return new RayError(`is needed: ${address} refuses requests without the cluster's token (HTTP ${status})`, { option, status });
  return new RayError(`${address} refuses the token in ${tokenFile} (HTTP ${status})`, { option, status });
}
