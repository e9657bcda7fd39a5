import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Assignment, enqueue, schedule as scheduleQueue, type SlotState, type Waiter } from "../../../src/workers/scheduler.ts";

const free: SlotState = { isUp: true, isAvailable: true, leases: 0, isExclusive: false, isCancelling: false };
const busy: SlotState = { ...free, leases: 1 };
const down: SlotState = { ...free, isUp: false, isAvailable: false };
const waiter = (overrides: Partial<Waiter> = {}): Waiter => ({ priority: 0, avoid: undefined, exclusive: false, ...overrides });
/** With waiters in the order in which they came; their places in it are in the assignments. */
function schedule(slots: readonly SlotState[], waiters: readonly Waiter[]): readonly Assignment[] {
  const queue: (Waiter & { readonly place: number })[] = [];
  for (const [place, each] of waiters.entries()) enqueue(queue, { ...each, place });
  return scheduleQueue(slots, queue).map(({ slot, waiter: index }) => ({ slot, waiter: queue[index]?.place ?? -1 }));
}
const pairs = (assignments: readonly Assignment[]) => assignments.map(({ slot, waiter }) => [slot, waiter]);

describe("a free worker", () => {
  test("takes the waiter with the highest priority, and the longest-waiting one on a tie", () => {
    const waiters = [waiter(), waiter({ priority: 2 }), waiter({ priority: 2 })];
    expect(pairs(schedule([free, down], waiters))).toEqual([[0, 1]]);
  });

  test("does not take a waiter that avoids it while another slot is up, even a busy one", () => {
    expect(pairs(schedule([free, busy], [waiter({ avoid: 0 })]))).toEqual([]);
    expect(pairs(schedule([free, down], [waiter({ avoid: 0 })]))).toEqual([[0, 0]]);
  });

  test("skips a waiter that avoids it and takes the next one", () => {
    expect(pairs(schedule([free, busy], [waiter({ avoid: 0, priority: 9 }), waiter()]))).toEqual([[0, 1]]);
  });

  test("takes nothing while it is not available", () => {
    expect(schedule([down, { ...free, isAvailable: false }], [waiter()])).toEqual([]);
  });
});

describe("a busy worker", () => {
  const three = [waiter(), waiter(), waiter()];

  test("is given its next task in advance while more tasks wait than there are slots", () => {
    expect(pairs(schedule([busy, busy], three))).toEqual([[0, 0]]);
  });

  test("is given at most one task in advance", () => {
    expect(schedule([{ ...busy, leases: 2 }], three)).toEqual([]);
  });

  test("is given no task in advance near the end, when another worker may be free first", () => {
    expect(schedule([busy, busy], [waiter(), waiter()])).toEqual([]);
  });

  test("is given no task in advance while it holds an exclusive task or is cancelling, and never an exclusive one", () => {
    expect(schedule([{ ...busy, isExclusive: true }], three)).toEqual([]);
    expect(schedule([{ ...busy, isCancelling: true }], three)).toEqual([]);
    expect(schedule([busy], [waiter({ exclusive: true }), waiter({ exclusive: true })])).toEqual([]);
  });
});

test("a worker that is leased in the same call counts as busy, and gets no second task if leased exclusively", () => {
  const waiters = [waiter({ exclusive: true, priority: 1 }), waiter(), waiter(), waiter()];
  expect(pairs(schedule([free], waiters))).toEqual([[0, 0]]);
  expect(pairs(schedule([free], waiters.slice(1)))).toEqual([
    [0, 0],
    [0, 1],
  ]);
});

describe("for any slots and waiters", () => {
  const slot = fc
    .record({ isUp: fc.boolean(), isAlive: fc.boolean(), leases: fc.nat(2), isExclusive: fc.boolean(), isCancelling: fc.boolean() })
    .map(({ isAlive, ...state }): SlotState => ({ ...state, isAvailable: state.isUp && isAlive }));
  const waiting = fc.record({ priority: fc.nat(3), avoid: fc.option(fc.nat(4), { nil: undefined }), exclusive: fc.boolean() });
  const law = (holds: (slots: readonly SlotState[], waiters: readonly Waiter[], assigned: readonly Assignment[]) => void) =>
    fc.assert(
      fc.property(fc.array(slot, { maxLength: 5 }), fc.array(waiting, { maxLength: 12 }), (slots, waiters) =>
        holds(slots, waiters, schedule(slots, waiters)),
      ),
    );

  test("no waiter is served twice, and only available workers get tasks, at most two each", () => {
    law((slots, _, assigned) => {
      expect(new Set(assigned.map(({ waiter: index }) => index)).size).toBe(assigned.length);
      for (const [index, state] of slots.entries()) {
        const count = assigned.filter((assignment) => assignment.slot === index).length;
        if (count > 0) expect(state.isAvailable && state.leases + count <= 2).toBe(true);
      }
    });
  });

  test("an exclusive task never shares its worker", () => {
    law((slots, waiters, assigned) => {
      for (const [index, state] of slots.entries()) {
        const given = assigned.filter((assignment) => assignment.slot === index).map((assignment) => waiters[assignment.waiter]);
        const isShared = state.leases + given.length > 1;
        if (isShared && given.length > 0)
          expect(given.some((waiter) => waiter?.exclusive) || (state.leases > 0 && state.isExclusive)).toBe(false);
      }
    });
  });

  test("no available worker without a task remains idle while a waiter would take it", () => {
    law((slots, waiters, assigned) => {
      const served = new Set(assigned.map(({ waiter: index }) => index));
      for (const [index, state] of slots.entries()) {
        if (!state.isAvailable || state.leases > 0 || assigned.some((assignment) => assignment.slot === index)) continue;
        const isOtherUp = slots.some((other, otherIndex) => otherIndex !== index && other.isUp);
        for (const [waiterIndex, { avoid }] of waiters.entries())
          if (!served.has(waiterIndex)) expect(avoid === index && isOtherUp).toBe(true);
      }
    });
  });

  test("a skipped waiter has no higher priority than those that the worker serves, unless it could not use that worker", () => {
    law((slots, waiters, assigned) => {
      const served = new Set(assigned.map(({ waiter: index }) => index));
      for (const { slot: index, waiter: chosen } of assigned) {
        const isOtherUp = slots.some((other, otherIndex) => otherIndex !== index && other.isUp);
        for (const [waiterIndex, { priority, avoid, exclusive }] of waiters.entries()) {
          if (served.has(waiterIndex) || exclusive || (avoid === index && isOtherUp)) continue;
          expect(priority).toBeLessThanOrEqual(waiters[chosen]?.priority ?? -1);
        }
      }
    });
  });
});
