/** Timers of this process that go only when they are told to. */
export interface Clock {
  /** Calls back what comes due within so many milliseconds. */
  advance(ms: number): void;
  /** Timers that are set. */
  pending(): number;
  /** The process has its own again. */
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
        const [next] = [...timers].filter(({ at }) => at <= end).toSorted((one, other) => one.at - other.at);
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
