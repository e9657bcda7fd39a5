import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type JournalEntry, openJournal, readJournal } from "../../../src/records/journal.ts";

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-journal-"));
  file = path.join(folder, "journal.jsonl");
});
afterEach(() => rmSync(folder, { recursive: true }));

const trained = { coverage: [], fit_loss: null, reported: [], failed: [], late: [], passes: 0, bytes_down: 0, bytes_up: 0 };
const commit = (round: number, digit = "a") => {
  return { type: "commit", round, sha256: digit.repeat(64), state_sha256: null, trained, clients: [], set_aside: [] };
};
const close = (round: number) => ({ type: "close", round, reported: ["c0"], failed: [], late: [], set_aside: [] });
const asked = (round: number, r: number) => ({ type: "round", round, clients: [{ id: "c0", r }] });
const write = (...entries: readonly unknown[]) => writeFileSync(file, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""));

test("an absent journal reads as empty", async () => {
  expect(await readJournal(file)).toEqual({
    commits: [],
    dropped: new Set(),
    highest: -1,
    asked: new Map(),
    closes: new Map(),
    hasEnded: false,
    end: 0,
  });
});

test("a round that was trained again replaces its earlier commit and all later ones", async () => {
  write(
    asked(1, 4),
    commit(0),
    commit(1),
    commit(2),
    { type: "end" },
    { type: "resume", after: 2, differences: [] },
    asked(1, 2),
    close(1),
    commit(1, "b"),
  );
  const journal = await readJournal(file);
  expect(journal.commits.map(({ round, sha256 }) => [round, sha256[0]])).toEqual([
    [0, "a"],
    [1, "b"],
  ]);
  expect([journal.highest, journal.hasEnded]).toEqual([2, false]);
  expect(journal.asked.get(1)).toEqual([{ id: "c0", r: 2 }]);
  expect(journal.closes.get(1)?.reported).toEqual(["c0"]);
});

test("an incomplete line at the end of a journal is ignored", async () => {
  write(commit(0), { type: "end" });
  const whole = (await readJournal(file)).end;
  appendFileSync(file, '{"type":"commit","round":1,"sha');
  expect(await readJournal(file)).toMatchObject({ end: whole, hasEnded: true });
});

test.each<[string, string, RegExp]>([
  ["that is not JSON", '{"type":"fit",', /journal\.jsonl:2\b/],
  ["without a type", JSON.stringify({ round: 1 }), /journal\.jsonl:2\b/],
  ["with a value of the wrong type", JSON.stringify({ ...commit(1), round: "one" }), /journal\.jsonl:2\b.*\bround\b.*\bnumber\b/],
  ["that is nested too deeply", `{"type":"commit","round":${"[".repeat(20_000)}${"]".repeat(20_000)}}`, /jsonl:2\b/],
  ["with an invalid hash", JSON.stringify(commit(1, "x")), /jsonl:2\b.*\bsha256\b.*\b64\b.*"x+"/],
  ["for a round that does not follow", JSON.stringify(commit(2)), /jsonl:2\b.*\bround 2\b.*\bround 1\b/],
])("the error of a damaged journal names the line of an entry %s", async (_, line, message) => {
  write(commit(0));
  appendFileSync(file, `${line}\n${JSON.stringify({ type: "end" })}\n`);
  await expect(readJournal(file)).rejects.toThrow(message);
  await expect(readJournal(file)).rejects.toMatchObject({ kind: "run" });
});

const written: readonly (readonly [JournalEntry, string])[] = [
  [
    {
      type: "commit",
      round: 0,
      sha256: "a".repeat(64),
      stateSha256: null,
      trained: { coverage: [], fitLoss: 0.5, reported: [], failed: [], late: [], passes: 1, bytesDown: 2, bytesUp: 3 },
      setAside: ["c1"],
      clients: [{ id: "c0", r: 4, rmsLoss: null }],
    },
    `{"type":"commit","round":0,"sha256":"${"a".repeat(64)}","state_sha256":null,` +
      '"trained":{"coverage":[],"fit_loss":0.5,"reported":[],"failed":[],"late":[],"passes":1,"bytes_down":2,"bytes_up":3},' +
      '"set_aside":["c1"],"clients":[{"id":"c0","r":4,"rms_loss":null}]}',
  ],
  [{ type: "round", round: 1, clients: [{ id: "c0", r: 4 }] }, '{"type":"round","round":1,"clients":[{"id":"c0","r":4}]}'],
  [
    { type: "fit", round: 1, clientId: "c0", workerId: "w1", attempt: 1, isRestored: false },
    '{"type":"fit","round":1,"client_id":"c0","worker_id":"w1","attempt":1,"is_restored":false}',
  ],
  [
    { type: "failure", taskId: "round-1/fit/c0", attempt: 1, workerId: "w1", error: "it died", willRetry: true },
    '{"type":"failure","task_id":"round-1/fit/c0","attempt":1,"worker_id":"w1","error":"it died","will_retry":true}',
  ],
  [{ type: "late", round: 1, clientId: "c0", workerId: "w1" }, '{"type":"late","round":1,"client_id":"c0","worker_id":"w1"}'],
  [
    { type: "close", round: 1, reported: ["c0"], failed: [], late: [], setAside: [] },
    '{"type":"close","round":1,"reported":["c0"],"failed":[],"late":[],"set_aside":[]}',
  ],
  [
    { type: "resume", after: 0, differences: [{ path: "variables", is: { MKL_CBWR: "AVX2" } }] },
    '{"type":"resume","after":0,"differences":[{"path":"variables","is":{"MKL_CBWR":"AVX2"}}]}',
  ],
  [{ type: "end" }, '{"type":"end"}'],
];

test("journal entries of every type have fixed bytes and can be read again", async () => {
  const journal = openJournal(file);
  for (const [entry] of written) journal.append(entry);
  await journal.close();
  expect(readFileSync(file, "utf8")).toBe(written.map(([, line]) => `${line}\n`).join(""));
  const { commits, asked, closes, hasEnded } = await readJournal(file);
  expect([...commits, closes.get(1), { type: "round", round: 1, clients: asked.get(1) }]).toEqual([
    written[0]?.[0],
    written[5]?.[0],
    written[1]?.[0],
  ]);
  expect(hasEnded).toBe(true);
});

const forPeople = ["fit", "failure", "late"];
const lines = written.map(([{ type }, line]) => [type, line] as const);

test.each(lines.filter(([type]) => forPeople.includes(type)))(
  "a journal's %s entry, which no resume depends on, may hold anything",
  async (type) => {
    write(commit(0), { type, extra: 1 }, commit(1));
    expect((await readJournal(file)).commits).toHaveLength(2);
  },
);

test.each(lines.filter(([type]) => !forPeople.includes(type)))(
  "a journal's %s entry with an unknown key counts as damaged",
  async (_, line) => {
    writeFileSync(file, `${line.replace(/\}$/, ',"extra":1}')}\n`);
    await expect(readJournal(file)).rejects.toMatchObject({
      kind: "run",
      message: expect.stringMatching(/journal\.jsonl:1\b.*\bextra\b/),
    });
  },
);

test("a journal entry of a type that only a later version knows is skipped", async () => {
  write(commit(0), { type: "tomorrow", anything: [1] }, commit(1));
  expect((await readJournal(file)).commits).toHaveLength(2);
});
