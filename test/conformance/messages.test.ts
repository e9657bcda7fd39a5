import { execFileSync } from "node:child_process";
import path from "node:path";
import { expect, test } from "vitest";
import { z } from "zod";
import { environmentPython, workersFolder } from "../../src/installation.ts";
import { wireColumns } from "../../src/protocol/client-columns.ts";
import { controllerMessage, workerMessage } from "../../src/protocol/messages.ts";
import { PROTOCOL_VERSION } from "../../src/protocol/limits.ts";

/* The messages are declared twice, in zod and as Python dataclasses. Every field must be the same in both. */

type Messages = Readonly<Record<string, unknown>>;

const python = JSON.parse(
  execFileSync(environmentPython(), [path.join(import.meta.dirname, "message_fields.py")], {
    encoding: "utf8",
    env: { PATH: process.env["PATH"], PYTHONPATH: workersFolder() },
  }),
) as { readonly version: number; readonly controller: Messages; readonly worker: Messages; readonly clients: unknown };

type Node = z.core.JSONSchema.BaseSchema;

function schemaOf(schema: z.ZodType): Node {
  return z.toJSONSchema(schema, {
    io: "input",
    unrepresentable: "any",
    override({ jsonSchema }) {
      const { item } = jsonSchema;
      if (item instanceof z.ZodType) Object.assign(jsonSchema, { items: schemaOf(item), item: undefined });
    },
  });
}

/** Describes a type as message_fields.py does. */
function describe(node: Node): unknown {
  const alternatives = node.anyOf ?? node.oneOf;
  if (alternatives) return { "one of": alternatives.flatMap((each) => unionOf(describe(each))) };
  const { type } = node as { readonly type?: string | readonly string[] };
  if (Array.isArray(type)) return { "one of": type.map((each: "string" | "null") => describe({ ...node, type: each })) };
  if (node.const !== undefined) return [node.const];
  if (node.enum) return [...node.enum].map(String).toSorted((a, b) => (a < b ? -1 : 1));
  if (node.type === "array") return { "list of": describe(node.items as Node) };
  if (node.type === "object" && node.properties) {
    const entries = Object.entries(node.properties).filter(([key]) => key !== "type" || !isEnvelope(node));
    return Object.fromEntries(entries.filter(([key]) => key !== "protocol_version").map(([key, value]) => [key, describe(value as Node)]));
  }
  if (node.type === "object") return { "map to": describe(node.additionalProperties as Node) };
  if (node.type === "integer") return `integer ≥ ${node.minimum ?? (node.exclusiveMinimum as number) + 1}`;
  return node.type;
}

function unionOf(described: unknown): unknown[] {
  return typeof described === "object" && described !== null && "one of" in described ? (described["one of"] as unknown[]) : [described];
}

/** In Python the class is the message's type. */
function isEnvelope({ properties = {} }: Node): boolean {
  return "protocol_version" in properties;
}

function typeOf({ properties = {} }: Node): string {
  return String((properties["type"] as Node).const);
}

function messagesOf(union: z.ZodDiscriminatedUnion<readonly z.ZodObject[]>): Messages {
  const options = schemaOf(union).oneOf as readonly Node[];
  return Object.fromEntries(options.map((option) => [typeOf(option), describe(option)]));
}

test.each([
  ["controller", messagesOf(controllerMessage)],
  ["worker", messagesOf(workerMessage)],
] as const)("every message of the %s has the same fields in Python", (side, messages) => {
  expect(messages).toEqual(python[side]);
});

test("the table of clients has the same columns in Python", () => {
  expect(describe(schemaOf(wireColumns))).toEqual(python.clients);
  expect(python.clients).toMatchObject({ n: "bytes", mix: { sizes: "bytes" }, values: { "list of": "string" } });
});

test("both languages have the same protocol version, and the comparison covers lists and maps", () => {
  expect(python.version).toBe(PROTOCOL_VERSION);
  const { prepared, chunk } = messagesOf(workerMessage) as Record<string, Record<string, unknown>>;
  expect(prepared).toMatchObject({ labels: { "list of": "string" }, tensors: { "list of": { name: ["clients"], bytes: "integer ≥ 0" } } });
  expect(chunk).toMatchObject({ data: "bytes", tensor: ["clients", "dense", "examples", "kept", "merged", "rows", "state"] });
});
