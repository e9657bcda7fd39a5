import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EnvironmentError } from "../../../src/errors.ts";
import { assignDevice, countWorkers, resolveDevices } from "../../../src/workers/devices.ts";

let folder: string;
/** Puts an nvidia-smi on PATH that prints this, and nothing else. */
async function withNvidiaSmi(script: string): Promise<void> {
  await writeFile(join(folder, "nvidia-smi"), `#!/bin/sh\n${script}\n`);
  await chmod(join(folder, "nvidia-smi"), 0o755);
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "devices-"));
  vi.stubEnv("PATH", folder);
  vi.stubEnv("CUDA_VISIBLE_DEVICES", undefined);
  vi.stubEnv("CUDA_DEVICE_ORDER", undefined);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

const withoutCuda = process.platform === "darwin" && process.arch === "arm64" ? ["mps"] : ["cpu"];

test("devices that were asked for are taken as they are", async () => {
  expect(await resolveDevices(["cuda:1", "cpu"])).toEqual(["cuda:1", "cpu"]);
});

test("auto is every CUDA device that nvidia-smi lists", async () => {
  await withNvidiaSmi("echo 0; echo 1; echo 2");
  expect(await resolveDevices("auto")).toEqual(["cuda:0", "cuda:1", "cuda:2"]);
});

test("auto is no more than CUDA_VISIBLE_DEVICES leaves", async () => {
  await withNvidiaSmi("echo 0; echo 1; echo 2");
  vi.stubEnv("CUDA_VISIBLE_DEVICES", "2,1");
  expect(await resolveDevices("auto")).toEqual(["cuda:0", "cuda:1"]);
  vi.stubEnv("CUDA_VISIBLE_DEVICES", "");
  expect(await resolveDevices("auto")).toEqual(withoutCuda);
});

test("auto is the processor, or mps, without nvidia-smi or where it finds nothing", async () => {
  expect(await resolveDevices("auto")).toEqual(withoutCuda);
  await withNvidiaSmi("echo No devices were found; exit 6");
  expect(await resolveDevices("auto")).toEqual(withoutCuda);
});

test("there is one worker a device, or as many as it has slots, or as many in all as were asked for", () => {
  const devices = ["cuda:0", "cuda:1", "cuda:2", "cuda:3"];
  expect(countWorkers(devices, {})).toBe(4);
  expect(countWorkers(devices, { slotsPerDevice: 2 })).toBe(8);
  expect(countWorkers(devices, { count: 3 })).toBe(3);
});

test("a worker on cuda:N sees that device alone, counted within what the controller sees", () => {
  expect(assignDevice("cuda:1")).toEqual({ device: "cuda", env: { CUDA_VISIBLE_DEVICES: "1", CUDA_DEVICE_ORDER: "PCI_BUS_ID" } });
  vi.stubEnv("CUDA_VISIBLE_DEVICES", "GPU-aa, GPU-bb");
  expect(assignDevice("cuda:1").env["CUDA_VISIBLE_DEVICES"]).toBe("GPU-bb");
  expect(() => assignDevice("cuda:2")).toThrow(EnvironmentError);
});

test("a worker elsewhere sees no CUDA device", () => {
  expect(assignDevice("cpu")).toEqual({ device: "cpu", env: { CUDA_VISIBLE_DEVICES: "" } });
  expect(assignDevice("mps")).toEqual({ device: "mps", env: { CUDA_VISIBLE_DEVICES: "" } });
});
