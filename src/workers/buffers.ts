/** Memory for tensors that arrive, used again: new memory costs more to touch than a tensor to receive. */
export interface Buffers {
  /** Its content is anything. */
  take(bytes: number): Uint8Array<ArrayBuffer>;
  /** Nobody reads or writes it any more. */
  give(buffer: Uint8Array<ArrayBuffer>): void;
}

export function createBuffers(): Buffers {
  let spares: readonly ArrayBuffer[] = [];
  return {
    take(bytes) {
      const fitting = spares.filter(({ byteLength }) => byteLength >= bytes).toSorted((a, b) => a.byteLength - b.byteLength);
      // One that is too small makes way: there are never more than were once in use.
      const [spare] = fitting.length > 0 ? fitting : spares;
      spares = spares.filter((other) => other !== spare);
      return new Uint8Array(fitting.length > 0 && spare ? spare : new ArrayBuffer(bytes), 0, bytes);
    },
    give({ buffer }) {
      if (buffer.byteLength > 0) spares = [...spares, buffer];
    },
  };
}
