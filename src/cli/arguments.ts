import { InvalidArgumentError } from "commander";

/** Parses an option's or argument's value. */
export function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It must be a whole number.");
  return Number(text);
}
