/** Replaces this process's timers by ones that fire only on request. */
export interface Clock {
  /** Fires the timers that are due within this many milliseconds. */
  advance(ms: number): void;
  /** The number of pending timers. */
  pending(): number;
  /** Restores the process's own timers. */
  restore(): void;
}

interface Timer {
  at: number;
  readonly period: number;
  readonly repeats: boolean;
  readonly call: () => void;
  refresh(): void;
}

export function stopTheClock(): Clock {
  const { setInterval, setTimeout, clearInterval, clearTimeout } = globalThis;
  const timers = new Set<Timer>();
  let now = 0;
  const start = (repeats: boolean) => (call: () => void, period: number) => {
    const timer: Timer = { at: now + period, period, repeats, call, refresh: () => void (timer.at = now + period) };
    timers.add(timer);
    return timer;
  };
  const clear = (timer: unknown) => void timers.delete(timer as Timer);
  Object.assign(globalThis, { setInterval: start(true), setTimeout: start(false), clearInterval: clear, clearTimeout: clear });
  return {
    advance(ms) {
      const end = now + ms;
      for (;;) {
        const [next] = [...timers].filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at);
        if (!next) break;
        now = next.at;
        if (next.repeats) next.refresh();
        else timers.delete(next);
        next.call();
      }
      now = end;
    },
    pending: () => timers.size,
    restore: () => void Object.assign(globalThis, { setInterval, setTimeout, clearInterval, clearTimeout }),
  };
}
