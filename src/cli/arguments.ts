import { InvalidArgumentError } from "commander";

/** For commander: reads the value of an option or argument. */
export function positiveNumber(text: string): number {
  const value = wholeNumber(text);
  if (value === 0) throw new InvalidArgumentError("It must be at least 1.");
  return value;
}

/** For commander, too. */
export function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It must be a whole number.");
  return Number(text);
}

/** For commander: a round's number, or `best`. */
export function roundName(text: string): number | "best" {
  if (text === "best") return text;
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It must be a round's number, or best.");
  return Number(text);
}
