import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EnvironmentError } from "../../../src/errors.ts";
import { assignDevice, countWorkers, leastWorkers, resolveDevices } from "../../../src/workers/devices.ts";

let folder: string;
/** Makes an nvidia-smi with this script the only program on PATH. */
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

test("configured devices are used unchanged", async () => {
  expect(await resolveDevices({ devices: ["cuda:1", "cpu"] })).toEqual(["cuda:1", "cpu"]);
});

test("auto selects every CUDA device that nvidia-smi lists", async () => {
  await withNvidiaSmi("echo 0; echo 1; echo 2");
  expect(await resolveDevices({ devices: "auto" })).toEqual(["cuda:0", "cuda:1", "cuda:2"]);
});

test("auto is limited to the number of devices in CUDA_VISIBLE_DEVICES", async () => {
  await withNvidiaSmi("echo 0; echo 1; echo 2");
  vi.stubEnv("CUDA_VISIBLE_DEVICES", "2,1");
  expect(await resolveDevices({ devices: "auto" })).toEqual(["cuda:0", "cuda:1"]);
  vi.stubEnv("CUDA_VISIBLE_DEVICES", "");
  expect(await resolveDevices({ devices: "auto" })).toEqual(withoutCuda);
});

test("auto falls back to cpu, or mps, if nvidia-smi is missing or finds no device", async () => {
  expect(await resolveDevices({ devices: "auto" })).toEqual(withoutCuda);
  await withNvidiaSmi("echo No devices were found; exit 6");
  expect(await resolveDevices({ devices: "auto" })).toEqual(withoutCuda);
});

test("the number of workers is one or slotsPerDevice for each device, unless count sets the total", () => {
  const devices = ["cuda:0", "cuda:1", "cuda:2", "cuda:3"];
  expect(countWorkers(devices, {})).toBe(4);
  expect(countWorkers(devices, { slotsPerDevice: 2 })).toBe(8);
  expect(countWorkers(devices, { count: 3 })).toBe(3);
});

test("a worker on cuda:N sees that device alone, with N counted among the devices visible to the controller", () => {
  expect(assignDevice("cuda:1")).toEqual({ device: "cuda", env: { CUDA_VISIBLE_DEVICES: "1", CUDA_DEVICE_ORDER: "PCI_BUS_ID" } });
  vi.stubEnv("CUDA_VISIBLE_DEVICES", "GPU-aa, GPU-bb");
  expect(assignDevice("cuda:1").env["CUDA_VISIBLE_DEVICES"]).toBe("GPU-bb");
  expect(() => assignDevice("cuda:2")).toThrow(EnvironmentError);
});

test("a worker on cpu or mps sees no CUDA device", () => {
  expect(assignDevice("cpu")).toEqual({ device: "cpu", env: { CUDA_VISIBLE_DEVICES: "" } });
  expect(assignDevice("mps")).toEqual({ device: "mps", env: { CUDA_VISIBLE_DEVICES: "" } });
});

test("a cluster is asked for as many workers as its count says, and decides which device each sees", async () => {
  const cluster = { resources: { CPU: 1, GPU: 0.5 }, count: { min: 2, max: 8 } };
  expect(await resolveDevices({ devices: "auto", cluster })).toEqual(["cuda:0"]);
  expect(await resolveDevices({ devices: "auto", cluster: { resources: { CPU: 1 } } })).toEqual(["cpu"]);
  expect([countWorkers(["cpu"], { cluster }), leastWorkers({ cluster })]).toEqual([8, 2]);
  expect([countWorkers(["cpu"], { cluster: { count: 3 } }), leastWorkers({ cluster: { count: 3 } })]).toEqual([3, 1]);
  // As plan asks: one worker is enough for it.
  expect([countWorkers(["cpu"], { count: 1, cluster }), leastWorkers({ count: 1, cluster })]).toEqual([1, 1]);
});

test("every host has all the devices, though workers take devices and hosts in rotation", async () => {
  const hosts = ["gpu-1", "gpu-2"];
  const devices = await resolveDevices({ devices: ["cuda:0", "cuda:1"], hosts });
  const places = Array.from({ length: countWorkers(devices, {}) }, (_, index) => [hosts[index % 2], devices[index % devices.length]]);
  expect(places).toEqual([
    ["gpu-1", "cuda:0"],
    ["gpu-2", "cuda:0"],
    ["gpu-1", "cuda:1"],
    ["gpu-2", "cuda:1"],
  ]);
});
