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
import type { Borrow } from "../protocol/tensor-chunks.ts";
import { createLender, type Lender, type MemoryFile } from "./lender.ts";

/*
 * Memory that processes of one user on one machine share: unnamed files in tmpfs, which the other process opens through
 * /proc by the owner's pid and descriptor. The kernel frees a file when the last process that holds it ends, in whatever
 * way. Only Linux has all of this.
 */

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

/** Lends memory of this process to others. */
export function createSharedMemory(): Lender {
  return createLender({ pid: null, open: openFile });
}

function openFile(): MemoryFile {
  const fd = openSync(TMPFS, O_TMPFILE | constants.O_RDWR, 0o600);
  return {
    fd: () => fd,
    write: (bytes, offset) => writeAll(fd, bytes, offset),
    empty: () => ftruncateSync(fd),
    close: () => closeSync(fd),
  };
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
