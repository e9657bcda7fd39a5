import type { Lend } from "../protocol/tensor-chunks.ts";

/** Lends the bytes of buffers to other processes, through files in memory. */
export interface Lender {
  /** The bytes of a buffer are written once, however many views of it are lent: they must not change. */
  readonly lend: Lend;
  close(): Promise<void>;
}

/** A file in memory, which others can open as long as they know its descriptor. */
export interface MemoryFile {
  /** Of the process that holds it. Not asked for before something was written. */
  fd(): number;
  /**
   * Writes at this offset; resolves once others can read it. `size`: of the buffer, which the file need not exceed. Rejects if
   * there is no room.
   */
  write(bytes: Uint8Array, offset: number, size: number): Promise<void>;
  /** Gives up all memory, but keeps the file. */
  empty(): void;
  close(): void;
}

export interface LenderOptions {
  /** The process that holds the files; null: this one. */
  readonly pid: number | null;
  open(): MemoryFile;
}

/** A file with parts of one buffer, each at its offset in the buffer. */
interface Board {
  readonly file: MemoryFile;
  /** Only compared: a file outlives the adapter that it has a copy of. */
  readonly buffer: WeakRef<ArrayBufferLike>;
  parts: readonly Part[];
  users: number;
  /** Whether there was no room for it. */
  isRefused: boolean;
}

interface Part {
  readonly from: number;
  readonly to: number;
  readonly written: Promise<unknown>;
}

export function createLender({ pid, open }: LenderOptions): Lender {
  let boards: readonly Board[] = [];
  let isClosed = false;

  function boardOf(buffer: ArrayBufferLike): Board {
    const known = boards.find((board) => board.buffer.deref() === buffer);
    if (known) return known;
    // A new buffer replaces those that nobody reads. One of their files is overwritten: its memory is already allocated.
    const [idle, ...others] = boards.filter(({ users }) => users === 0);
    for (const { file } of others) file.close();
    boards = boards.filter(({ users }) => users > 0);
    const board: Board = { file: idle?.file ?? open(), buffer: new WeakRef(buffer), parts: [], users: 0, isRefused: false };
    boards = [...boards, board];
    return board;
  }

  return {
    async lend(bytes) {
      if (isClosed) return undefined;
      let board: Board | undefined;
      try {
        board = boardOf(bytes.buffer);
        if (board.isRefused) return undefined;
        const { file } = board;
        const release = hold(board);
        const isWritten = await put(board, bytes).then(
          () => true,
          () => false,
        );
        if (isWritten) return { pid, fd: file.fd(), offset: bytes.byteOffset, release };
        // Not retried for the same buffer.
        board.isRefused = true;
        release();
        return undefined;
      } catch {
        if (board) board.isRefused = true;
        return undefined;
      }
    },
    async close() {
      isClosed = true;
      await Promise.allSettled(boards.flatMap(({ parts }) => parts.map(({ written }) => written)));
      for (const { file } of boards) file.close();
      boards = [];
    },
  };
}

/** A prefix that grows is written only as far as it is new. */
function put(board: Board, bytes: Uint8Array): Promise<unknown> {
  const [from, to] = [bytes.byteOffset, bytes.byteOffset + bytes.byteLength];
  const [known] = board.parts.filter((part) => part.from <= from && part.to > from).toSorted((a, b) => b.to - a.to);
  if (known && known.to >= to) return known.written;
  const start = known?.to ?? from;
  const rest = board.file.write(bytes.subarray(start - from), start, bytes.buffer.byteLength);
  const part = { from: known?.from ?? from, to, written: known ? both(known.written, rest) : rest };
  board.parts = [...board.parts, part];
  return part.written;
}

/** Settles only once both have: until then the file must not be given to another buffer. */
async function both(...writes: readonly Promise<unknown>[]): Promise<void> {
  await Promise.allSettled(writes);
  await Promise.all(writes);
}

function hold(board: Board): () => void {
  let isHeld = true;
  board.users++;
  return () => {
    if (!isHeld) return;
    isHeld = false;
    board.users--;
    if (board.isRefused) giveRoomBack(board);
  };
}

/** A buffer that did not fit must not take up room. Its parts that were lent remain until the last is released. */
function giveRoomBack(board: Board): void {
  if (board.users > 0) return;
  board.parts = [];
  board.file.empty();
}
