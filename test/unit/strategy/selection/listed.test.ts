import { expect, it } from "vitest";
import { ConfigError } from "../../../../src/errors.ts";
import { listedClients } from "../../../../src/strategy/selection/listed.ts";
import type { SelectionContext } from "../../../../src/strategy/strategy.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

const context = { clients: ["c0", "c1", "c2"].map((id, index) => ({ id, index })) } as unknown as SelectionContext;

it("selects the listed clients, in the order of the run's clients", () => {
  expect(listedClients(["c2", "c0"])(context)).toEqual(["c0", "c2"]);
});

it("can list half of 200,000 clients", () => {
  const clients = clientsOf(Array.from({ length: 200_000 }, () => ({})));
  const odd = clients.filter(({ index }) => index % 2 === 1).map(({ id }) => id);
  expect(listedClients(odd.toReversed())(selectionContext(clients))).toEqual(odd);
});

it("refuses an unknown client, a client listed twice, and an empty list", () => {
  expect(() => listedClients(["c3"])(context)).toThrow(/\bc3\b.*\bc0 to c2\b/);
  expect(() => listedClients(["c0", "c0"])).toThrow(ConfigError);
  expect(() => listedClients([])).toThrow(ConfigError);
});
