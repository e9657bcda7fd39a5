/** Calls back when it has not been restarted for a while. Begins with the first `restart`. */
export interface Deadline {
  restart(): void;
  clear(): void;
}

/**
 * Time is counted in slices, each of which ends by the event loop looking for new messages: while this process
 * was itself busy or asleep it did not listen, and that silence does not count.
 */
const SLICES = 4;

export function createDeadline(milliseconds: number, expire: () => void): Deadline {
  let timer: NodeJS.Timeout | undefined;
  let passed = 0;
  const clear = () => {
    clearInterval(timer);
    timer = undefined;
  };
  const tick = () => {
    passed++;
    if (passed < SLICES) return;
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
