import { expect, test } from "vitest";
import { roomOn } from "../../../src/ray/cluster-room.ts";

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
