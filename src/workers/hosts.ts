import type { Lend } from "../protocol/tensor-chunks.ts";
import type { Lender } from "../transport/lender.ts";

/** A worker that can keep bytes for others. */
export interface Member {
  /** Makes a lender of what this worker keeps. */
  lender(): Lender;
}

/** Workers on other machines, by machine: an adapter is sent once to each machine, and its workers lend it to one another. */
export class Hosts {
  readonly #hosts = new Map<string, Host>();

  /** `memory`: the same for all workers that can read one another's memory. */
  join(memory: string, member: Member): Seat {
    const host = this.#hosts.get(memory) ?? new Host();
    this.#hosts.set(memory, host);
    return host.join(member, () => this.#hosts.delete(memory));
  }
}

/** A worker's membership. */
export interface Seat {
  /** Resolves with undefined where its machine has no room, or nobody whose memory the worker can read. */
  readonly lend: Lend;
  /** The worker could not read what was lent to it: it is lent nothing more by whoever keeps it now. */
  refuse(): void;
  /** Nothing is lent to it any more, and nothing of what it keeps to others. Safe to call twice. */
  leave(): void;
}

/** One machine. The first of its workers keeps what all of them read; when it is gone, the next one starts anew. */
class Host {
  readonly #members = new Set<Member>();
  #kept: { readonly by: Member; readonly lender: Lender } | undefined;

  join(member: Member, onEmpty: () => void): Seat {
    this.#members.add(member);
    let [lentBy, unreadable]: (Member | undefined)[] = [];
    return {
      lend: async (bytes) => {
        while (this.#members.has(member)) {
          const kept = this.#keep();
          if (!kept || kept.by === unreadable) return undefined;
          const lent = await kept.lender.lend(bytes);
          if (lent) lentBy = kept.by;
          if (lent || kept === this.#kept) return lent;
          // Whoever kept it has died meanwhile.
        }
        return undefined;
      },
      refuse: () => (unreadable = lentBy),
      leave: () => {
        if (!this.#members.delete(member)) return;
        if (this.#kept?.by === member) this.#kept = undefined;
        if (this.#members.size === 0) onEmpty();
      },
    };
  }

  #keep() {
    const [first] = this.#members;
    if (first) this.#kept ??= { by: first, lender: first.lender() };
    return this.#kept;
  }
}
