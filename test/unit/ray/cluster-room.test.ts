import { expect, test } from "vitest";
import { clusterRoom, roomOn } from "../../../src/ray/cluster-room.ts";
import { fakeJobsServer } from "../../support/fake-jobs-server.ts";

test.each([
  [
    "as many as the scarcer resource allows, node by node",
    [
      { CPU: 8, GPU: 2 },
      { CPU: 3, GPU: 4 },
    ],
    { CPU: 2, GPU: 1 },
    3,
  ],
  ["none on a node without the resource", [{ CPU: 64 }], { GPU: 1 }, 0],
  ["several on a GPU", [{ CPU: 8, GPU: 1 }], { CPU: 1, GPU: 0.1 }, 8],
  ["a tenth of a GPU ten times", [{ GPU: 1 }], { GPU: 0.1 }, 10],
])("room is %s", (_, nodes, needed, workers) => {
  expect(roomOn(nodes, needed)).toEqual({ nodes: nodes.length, workers });
});

test("all nodes are asked for: Ray lists 100 unless told otherwise, dead ones among them", async () => {
  const server = await fakeJobsServer();
  const node = (state: string) => ({ state, resources_total: { CPU: 1 } });
  const nodes = [...Array.from({ length: 100 }, () => node("DEAD")), node("ALIVE"), node("ALIVE")];
  const answer = (limit: number) => ({ status: 200, body: JSON.stringify({ data: { result: { result: nodes.slice(0, limit) } } }) });
  server.faults.answers = { "limit=10000": answer(10_000), "GET /api/v0/nodes": answer(100) };
  expect(await clusterRoom(server, { CPU: 1 })).toEqual({ nodes: 2, workers: 2 });
});
