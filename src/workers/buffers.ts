/** Reusable memory for received tensors: touching new memory costs more than receiving a tensor. */
export interface Buffers {
  /** Its content is undefined. */
  take(bytes: number): Uint8Array<ArrayBuffer>;
  /** The caller must no longer read or write it. */
  give(buffer: Uint8Array<ArrayBuffer>): void;
}

export function createBuffers(): Buffers {
  let spares: readonly ArrayBuffer[] = [];
  return {
    take(bytes) {
      const fitting = spares.filter(({ byteLength }) => byteLength >= bytes).toSorted((a, b) => a.byteLength - b.byteLength);
      // One that is too small is dropped: there are never more buffers than were once in use.
      const [spare] = fitting.length > 0 ? fitting : spares;
      spares = spares.filter((other) => other !== spare);
      return new Uint8Array(fitting.length > 0 && spare ? spare : new ArrayBuffer(bytes), 0, bytes);
    },
    give({ buffer }) {
      if (buffer.byteLength > 0) spares = [...spares, buffer];
    },
  };
}
