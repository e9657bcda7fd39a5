/* A controller that delivers its run to a tracker and waits in round 3, to be killed: node tracked-controller.mjs RUNS_DIR TRACKER */
import process from "node:process";
import { federate } from "../../dist/index.js";
import { tinyRun } from "../../dist/testing/index.js";

const [runsDir = "", tracker = ""] = process.argv.slice(2);
const selection = ({ round, clients }) =>
  round === 3 ? new Promise(() => setInterval(() => undefined, 1000)) : clients.map(({ id }) => id);
await federate(tinyRun({ runsDir, name: "tiny", track: [JSON.parse(tracker)], strategy: { selection } })).result;
