import { existsSync } from "node:fs";
import process from "node:process";

/** The browser that the tests of the page drive: CHROMIUM, or Debian's. Undefined if there is none, and such tests are skipped. */
export const chromium: string | undefined = [process.env["CHROMIUM"], "/usr/bin/chromium"].find(
  (file) => file !== undefined && existsSync(file),
);
