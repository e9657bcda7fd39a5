/** Calls back if it is not restarted in time. Begins with the first `restart`. */
export interface Deadline {
  restart(): void;
  clear(): void;
}

/**
 * Time is counted in slices, and the event loop polls for messages after each: silence does not count while this process
 * itself was busy or asleep.
 */
const SLICES = 4;

/** `look` is called after each slice but the last. */
export function createDeadline(milliseconds: number, expire: () => void, look: () => void = () => {}): Deadline {
  let timer: NodeJS.Timeout | undefined;
  let passed = 0;
  const clear = () => {
    clearInterval(timer);
    timer = undefined;
  };
  const tick = () => {
    passed++;
    if (passed < SLICES) return look();
    clear();
    expire();
  };
  return {
    restart() {
      passed = 0;
      if (timer) timer.refresh();
      else timer = setInterval(tick, milliseconds / SLICES);
    },
    clear,
  };
}
