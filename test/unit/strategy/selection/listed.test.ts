import { expect, it } from "vitest";
import { ConfigError } from "../../../../src/errors.ts";
import { listedClients } from "../../../../src/strategy/selection/listed.ts";
import type { SelectionContext } from "../../../../src/strategy/strategy.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

const context = { clients: ["c0", "c1", "c2"].map((id, index) => ({ id, index })) } as unknown as SelectionContext;

it("takes the clients it names, in the clients' order", () => {
  expect(listedClients(["c2", "c0"])(context)).toEqual(["c0", "c2"]);
});

it("takes half of 200,000 clients", () => {
  const clients = clientsOf(Array.from({ length: 200_000 }, () => ({})));
  const odd = clients.filter(({ index }) => index % 2 === 1).map(({ id }) => id);
  expect(listedClients(odd.toReversed())(selectionContext(clients))).toEqual(odd);
});

it("refuses a client that there is none of, one named twice, and an empty list", () => {
  expect(() => listedClients(["c3"])(context)).toThrow("names c3; the clients are c0 to c2");
  expect(() => listedClients(["c0", "c0"])).toThrow(ConfigError);
  expect(() => listedClients([])).toThrow(ConfigError);
});
