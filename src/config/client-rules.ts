import { ConfigError, type ConfigIssue } from "../errors.ts";
import { clientsNeeded } from "../strategy/aggregation/segment-wise.ts";
import { shareOf } from "../strategy/selection/share.ts";
import { formatPath } from "./check.ts";
import { aggregationSpecOf, rankSpecOf, selectionSpecOf } from "./policy-specs.ts";
import type { Checked, Rule } from "./rule.ts";
import type { CommonConfig } from "./sections.ts";
import type { Path } from "./tree.ts";

/* Rules on the number of clients and what depends on it. */

/** The number of clients, if the config determines it; with the partitions value and files, the data may. */
export function clientsInConfig({ clients, partition }: Pick<CommonConfig["data"], "clients" | "partition">): number | undefined {
  if (clients !== undefined || partition?.name !== "size") return clients;
  // Rules also call this with partly invalid configs.
  return Array.isArray(partition.shares) ? partition.shares.length : undefined;
}

/**
 * Throws a ConfigError with every rule that this number of clients breaks. Where the data determines the number, it is known only
 * once a worker has read the data.
 */
export function requireClients(config: Checked, clients: number): void {
  const issues: ConfigIssue[] = [];
  const report = (path: Path, message: string) => issues.push({ path: formatPath(path, "camelCase"), message });
  for (const { check } of rulesOfClients) check({ ...config, data: { ...config.data, clients } }, report);
  if (issues.length > 0) throw new ConfigError(issues);
}

/** A rule that applies once the number of clients is known. */
function ofClients(
  reads: readonly string[],
  check: (config: Checked, clients: number, report: (path: Path, message: string) => void) => void,
): Rule {
  return {
    reads: ["data.clients", ...reads],
    check(config, report) {
      const clients = clientsInConfig(config.data);
      if (clients !== undefined) check(config, clients, report);
    },
  };
}

const numberOfClients: Rule = {
  reads: ["data.clients", "data.partition"],
  check({ data }, report) {
    const { name } = data.partition;
    if (clientsInConfig(data) !== undefined || name === "value" || name === "files") return;
    report(["data", "clients"], `is needed: the partition ${name} does not determine the number of clients`);
  },
};

const sizesOfClients: Rule = {
  reads: ["data.partition"],
  check({ data: { partition } }, report) {
    if (partition.name !== "size" || (partition.alpha === undefined) !== (partition.shares === undefined)) return;
    report(["data", "partition"], "must have either alpha, to draw the sizes, or shares, to list them");
  },
};

const oneSharePerClient = ofClients(["data.partition"], ({ data: { partition } }, clients, report) => {
  const shares = partition.name === "size" ? partition.shares : undefined;
  if (!shares || shares.length === clients) return;
  report(["data", "partition", "shares"], `must have one share for each of the ${clients} clients (data.clients), got ${shares.length}`);
});

const enoughExamples = ofClients(["data.maxExamples", "data.clientEvalExamples", "data.partition"], ({ data }, clients, report) => {
  const { maxExamples, clientEvalExamples, partition } = data;
  if (maxExamples === undefined) return;
  const each = Math.max(leastExamples(partition), clientEvalExamples + 1);
  if (maxExamples >= clients * each) return;
  report(["data", "maxExamples"], `must be at least ${clients * each} (${clients} clients of at least ${each} each), got ${maxExamples}`);
});

/** The fewest examples that any client may have. */
function leastExamples(partition: CommonConfig["data"]["partition"]): number {
  if ("minExamples" in partition) return partition.minExamples;
  return partition.name === "pathological" ? partition.perClient : 1;
}

const oneRankPerClient = ofClients(["strategy.rankAssignment"], ({ strategy: { rankAssignment } }, clients, report) => {
  const spec = rankSpecOf(rankAssignment);
  if (!spec || !("ranks" in spec) || spec.ranks.length === clients) return;
  report(
    ["strategy", "rankAssignment", "ranks"],
    `must have one rank for each of the ${clients} clients (data.clients), got ${spec.ranks.length}`,
  );
});

const oneProfilePerClient = ofClients(["data.profiles"], ({ data: { profiles } }, clients, report) => {
  if (!profiles || profiles.length === clients) return;
  report(["data", "profiles"], `must have one profile for each of the ${clients} clients (data.clients), got ${profiles.length}`);
});

const enoughCandidates = ofClients(["strategy.selection"], ({ strategy: { selection } }, clients, report) => {
  const spec = selectionSpecOf(selection);
  if (spec?.name !== "power-of-choice") return;
  const selected = shareOf(spec.fraction, clients);
  if (spec.candidates >= selected && spec.candidates <= clients) return;
  const range = `between ${selected} (clients that train in a round) and ${clients} (all clients)`;
  report(["strategy", "selection", "candidates"], `must be ${range}, got ${spec.candidates}`);
});

/**
 * With fewer clients in a round, no segment would ever change. A user's own selection may select all clients; so may one that rounds
 * up in each tier.
 */
const enoughContributors = ofClients(["strategy.selection", "strategy.aggregation"], ({ strategy }, clients, report) => {
  const { selection, aggregation } = strategy;
  const spec = aggregationSpecOf(aggregation);
  if (!spec || !("minContributors" in spec)) return;
  const selected = selectionSpecOf(selection);
  const listed = selected?.name === "list" ? selected.clients.length : clients;
  const drawn = selected && "fraction" in selected && selected.name !== "stratified" ? shareOf(selected.fraction, clients) : listed;
  if (spec.minContributors > drawn) {
    const message = `must be at most ${drawn}, the number of clients in a round, got ${spec.minContributors}`;
    report(["strategy", "aggregation", "minContributors"], message);
  }
  const robust = "robust" in spec ? spec.robust : undefined;
  const needed = clientsNeeded({ robust });
  if (!robust || needed <= drawn) return;
  const { name, ...options } = robust;
  const made = Object.entries(options).map(([key, value]) => ` with ${key} ${value}`);
  report(["strategy", "aggregation", "robust"], `${name}${made.join("")} needs ${needed} clients in a round, and there are ${drawn}`);
});

const rulesOfClients: readonly Rule[] = [
  enoughContributors,
  enoughExamples,
  oneSharePerClient,
  oneRankPerClient,
  oneProfilePerClient,
  enoughCandidates,
];

export const clientRules: readonly Rule[] = [...rulesOfClients, numberOfClients, sizesOfClients];
