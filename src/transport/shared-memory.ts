import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  read,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  write,
  writeSync,
} from "node:fs";
import { promisify } from "node:util";
import { RefusedError } from "../errors.ts";
import type { Borrow, Lend } from "../protocol/tensor-chunks.ts";

/*
 * Memory that processes of one user on one machine share: unnamed files in tmpfs, which the other process opens through
 * /proc by the owner's pid and descriptor. The kernel frees a file when the last process that holds it ends, in whatever
 * way. Only Linux has all of this.
 */

export interface SharedMemory {
  /** The bytes of a buffer are written once, however many views of it are lent: they must not change. */
  readonly lend: Lend;
  close(): Promise<void>;
}

const TMPFS = "/dev/shm";
/** `constants` lacks O_TMPFILE, which is O_DIRECTORY and this bit on every Linux. */
const O_TMPFILE = constants.O_DIRECTORY | 0o20000000;
/** One call moves less than 2 GiB. */
const MOST_AT_ONCE = 2 ** 30;
/** A borrower overwrites byte 0 with this. */
const RETURNED = Uint8Array.of(1);
/** Moved synchronously: handing it to another thread would cost more. */
const FEW_BYTES = 65536;

const writeSome = promisify(write);
const readSome = promisify(read);

/** A file with parts of one buffer, each at its offset in the buffer. */
interface Board {
  readonly fd: number;
  readonly buffer: ArrayBufferLike;
  parts: readonly { readonly from: number; readonly to: number; readonly written: Promise<void> }[];
  users: number;
  /** Whether there was no room for it. */
  isRefused: boolean;
}

export function createSharedMemory(): SharedMemory {
  let boards: readonly Board[] = [];
  let isClosed = false;

  function boardOf(buffer: ArrayBufferLike): Board {
    const known = boards.find((board) => board.buffer === buffer);
    if (known) return known;
    // A new buffer replaces those that nobody reads. One of their files is overwritten: its memory is already allocated.
    const [idle, ...others] = boards.filter(({ users }) => users === 0);
    for (const { fd } of others) closeSync(fd);
    boards = boards.filter(({ users }) => users > 0);
    const fd = idle?.fd ?? openSync(TMPFS, O_TMPFILE | constants.O_RDWR, 0o600);
    const board: Board = { fd, buffer, parts: [], users: 0, isRefused: false };
    boards = [...boards, board];
    return board;
  }

  function put(board: Board, bytes: Uint8Array): Promise<void> {
    const [from, to] = [bytes.byteOffset, bytes.byteOffset + bytes.byteLength];
    const known = board.parts.find((part) => part.from <= from && part.to >= to);
    if (known) return known.written;
    const written = writeAll(board.fd, bytes, from);
    board.parts = [...board.parts, { from, to, written }];
    return written;
  }

  return {
    async lend(bytes) {
      if (isClosed) return undefined;
      let board: Board | undefined;
      try {
        board = boardOf(bytes.buffer);
        if (board.isRefused) return undefined;
        const { fd } = board;
        const release = hold(board);
        const isWritten = await put(board, bytes).then(
          () => true,
          () => false,
        );
        if (isWritten) return { pid: null, fd, offset: bytes.byteOffset, release };
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
      for (const { fd } of boards) closeSync(fd);
      boards = [];
    },
  };
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
  ftruncateSync(board.fd);
}

/** Whether a process has ended, even if it is still a zombie. */
export function isGone(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in brackets may contain anything; the state follows it.
    return /^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return true;
  }
}

/** Whether memory can be lent to a process, and borrowed from it. */
export function canShareWith(pid: number): boolean {
  if (process.platform !== "linux") return false;
  try {
    readdirSync(`/proc/${pid}/fd`);
    closeSync(openSync(TMPFS, O_TMPFILE | constants.O_RDWR, 0o600));
    return true;
  } catch {
    return false;
  }
}

/**
 * Reads everything that a process lends, or throws a RefusedError. In either case it then sets the first byte of each file:
 * the process may reuse it.
 */
export function borrowFrom(pid: number): Borrow {
  return async (tensors) => {
    const files = new Map<number, number>();
    try {
      for (const { from, into } of tensors) {
        const file = files.get(from.fd) ?? openLent(pid, from.fd);
        files.set(from.fd, file);
        await readAll(file, into, from.offset);
      }
    } finally {
      for (const file of files.values()) {
        try {
          writeSync(file, RETURNED, 0, 1, 0);
        } catch {
          // Sealed, or gone with its process: then nobody waits for it.
        } finally {
          closeSync(file);
        }
      }
    }
  };
}

/** The same for a process that may end meanwhile: then it rejects only after `ended`, so that the process's end is known first. */
export function borrowFromProcess(pid: number, ended: Promise<unknown>): Borrow {
  const read = borrowFrom(pid);
  return (tensors) =>
    read(tensors).catch(async (error: unknown) => {
      // If memory is gone because the process ended, its finished task is not to blame.
      if (isGone(pid)) await ended;
      throw error;
    });
}

function openLent(pid: number, fd: number): number {
  const path = `/proc/${pid}/fd/${fd}`;
  let opened: number | undefined;
  try {
    // Opening a pipe or device must not block.
    opened = openSync(path, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
    // Byte 0 is written to: never in one of the user's files.
    const { nlink } = fstatSync(opened);
    const isNameless = nlink === 0 || readlinkSync(path).startsWith("/memfd:");
    if (fstatSync(opened).isFile() && isNameless) return opened;
  } catch {}
  if (opened !== undefined) closeSync(opened);
  throw new RefusedError(`shared memory ${path}`, "an unnamed file", "none");
}

async function readAll(file: number, into: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < into.length;) {
    const length = Math.min(into.length - done, MOST_AT_ONCE);
    const bytesRead =
      length <= FEW_BYTES
        ? readSync(file, into, done, length, offset + done)
        : (await readSome(file, into, done, length, offset + done)).bytesRead;
    if (bytesRead === 0) throw new RefusedError("shared memory", `${offset + into.length} bytes`, `${offset + done}`);
    done += bytesRead;
  }
}

async function writeAll(file: number, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const length = Math.min(bytes.length - done, MOST_AT_ONCE);
    done +=
      length <= FEW_BYTES
        ? writeSync(file, bytes, done, length, offset + done)
        : (await writeSome(file, bytes, done, length, offset + done)).bytesWritten;
  }
}
