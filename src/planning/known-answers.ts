import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import type { RunConfig } from "../config/schema.ts";
import type { ClientColumns } from "../protocol/client-columns.ts";
import { decodeClients, encodeClients } from "../protocol/codec.ts";
import { type WorkerMessage, workerMessage, type WorkerMessageOf } from "../protocol/messages.ts";
import { parseJson } from "../base/json.ts";
import { resolveDevices } from "../workers/devices.ts";
import { findPython } from "../workers/python.ts";
import { cacheFolder, packageVersion } from "../installation.ts";
import { askModule } from "../workers/run-module.ts";
import { type Answers, requestsOf, type Session } from "../server/session.ts";

/*
 * Workers' answers about a model and data, cached so that `plan` need not ask again. The same requests about the same files, with the
 * same versions, get the same answers. Requests and devices are in the entry's name; a Python process that imports no torch
 * (prelort_worker.unchanged) compares files and versions.
 */

const versions = z.record(z.string(), z.string());
const entry = z.strictObject({ content: z.string(), sha256: z.string() });
const entryContent = z.strictObject({ versions, prepared: z.unknown(), clients: z.base64(), loaded: z.unknown() });
const check = z.strictObject({ is_unchanged: z.boolean(), versions });

/** The answers that workers would give, if they are cached and still valid. */
export async function recallAnswers(config: RunConfig, signal: AbortSignal | undefined): Promise<Answers | undefined> {
  const { content, sha256 } = entry.safeParse(parseJson(await readFile(await entryFile(config), "utf8").catch(() => ""))).data ?? {};
  if (content === undefined || hashOf(content) !== sha256) return undefined;
  const known = entryContent.safeParse(parseJson(content)).data;
  const prepared = messageOf(known?.prepared, "prepared");
  const loaded = messageOf(known?.loaded, "loaded");
  const columns = known && prepared && clientsIn(known.clients, prepared.labels.length);
  if (!known || !prepared?.sources || !columns || !loaded) return undefined;
  const now = await askModule(
    {
      python: findPython(config.workers.python),
      program: "unchanged",
      request: { sources: prepared.sources, cache_dir: cacheFolder() },
      purpose: "comparing the model and data with those of the last plan",
      signal,
    },
    check,
  );
  const isSame = now.is_unchanged && JSON.stringify(now.versions) === JSON.stringify(known.versions);
  return isSame ? { prepared, columns, loaded } : undefined;
}

/** Caches the answers of a session's workers. Errors are ignored, since a missing cache only costs time. */
export async function rememberAnswers(config: RunConfig, { prepared, columns, loaded, environment }: Session): Promise<void> {
  const clients = Buffer.from(encodeClients(columns)).toString("base64");
  const content = JSON.stringify({ versions: environment.versions, prepared, clients, loaded });
  const file = await entryFile(config);
  const aside = `${file}.${randomUUID()}`;
  try {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    // Labels and clients may be private.
    await writeFile(aside, JSON.stringify({ content, sha256: hashOf(content) }), { mode: 0o600 });
    await rename(aside, file);
  } catch {
    await rm(aside, { force: true }).catch(() => {});
  }
}

async function entryFile(config: RunConfig): Promise<string> {
  const devices = await resolveDevices(config.workers);
  const asked = [packageVersion(), findPython(config.workers.python), devices, config.workers.threads, requestsOf(config)];
  return path.join(cacheFolder(), "answers", `${hashOf(JSON.stringify(asked))}.json`);
}

function messageOf<T extends WorkerMessage["type"]>(value: unknown, type: T): WorkerMessageOf<T> | undefined {
  const { data } = workerMessage.safeParse(value);
  return data?.type === type ? (data as WorkerMessageOf<T>) : undefined;
}

function clientsIn(encoded: string, labels: number): ClientColumns | undefined {
  try {
    return decodeClients(Buffer.from(encoded, "base64"), labels);
  } catch {
    return undefined;
  }
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
