import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

type Transfer = (this: ArrayBufferLike, bytes: number) => unknown;

/**
 * Frees memory at once, and leaves views of it empty. Garbage collection counts what sockets received against the heap: under
 * a stream of large frames it would run all the time, and take longer than everything else that is done with them.
 */
export function free({ buffer }: Uint8Array): void {
  transfer.call(buffer, 0);
}

const transfer = (ArrayBuffer.prototype as { transfer?: Transfer }).transfer ?? transferOfNode20();

/** Node 20 has it behind a flag, which is read when a context is made. */
function transferOfNode20(): Transfer {
  setFlagsFromString("--harmony-rab-gsab-transfer");
  return runInNewContext("ArrayBuffer.prototype.transfer") as Transfer;
}
