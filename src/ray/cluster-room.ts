import { z } from "zod";
import { parseJson } from "../base/json.ts";
import { askRay, type RayAddress } from "./jobs-request.ts";
import { RayError } from "./ray-error.ts";

type Resources = Readonly<Record<string, number>>;

/** What a cluster has for workers. */
export interface ClusterRoom {
  /** Live nodes. */
  readonly nodes: number;
  /** Workers that fit on them, if nobody else used them. */
  readonly workers: number;
}

const nodesAnswer = z.object({
  data: z.object({
    result: z.object({ result: z.array(z.object({ state: z.string(), resources_total: z.record(z.string(), z.number()) })) }),
  }),
});

const TIMEOUT_MS = 20_000;
/** As many as Ray allows. By default it lists 100, with dead nodes among them. */
const MOST_NODES = 10_000;

/** Asks Ray what its nodes have. Rejects with a RayError. */
export async function clusterRoom(at: RayAddress, needed: Resources): Promise<ClusterRoom> {
  const answer = await askRay(at, { method: "GET", path: `/api/v0/nodes?limit=${MOST_NODES}`, timeoutMs: TIMEOUT_MS });
  const { data: told } = nodesAnswer.safeParse(answer.status === 200 ? parseJson(answer.body) : undefined);
  if (!told) throw new RayError(`${at.address} does not tell its nodes as Ray does`, { status: answer.status });
  return roomOn(
    told.data.result.result.filter(({ state }) => state === "ALIVE").map((node) => node.resources_total),
    needed,
  );
}

/** Of nodes with these resources. */
export function roomOn(nodes: readonly Resources[], needed: Resources): ClusterRoom {
  const wanted = Object.entries(needed).filter(([, amount]) => amount > 0);
  const fitting = (node: Resources) => Math.min(...wanted.map(([name, amount]) => Math.floor((node[name] ?? 0) / amount + ROUNDING)));
  return { nodes: nodes.length, workers: nodes.reduce((sum, node) => sum + (wanted.length > 0 ? fitting(node) : 0), 0) };
}

/** Fractions of a GPU, such as 0.1, have no exact binary number. */
const ROUNDING = 1e-9;
