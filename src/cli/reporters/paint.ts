import { styleText } from "node:util";

type Style = "bold" | "dim" | "green" | "yellow" | "cyan";
export type Paint = (style: Style, text: string) => string;

/** Colours text if the stream shows colours; a terminal's `hasColors` honours NO_COLOR and similar variables. */
export function paintFor(stream: NodeJS.WritableStream & { hasColors?: (count?: number) => boolean }): Paint {
  const isColored = stream.hasColors?.() ?? false;
  return (style, text) => (isColored ? styleText(style, text, { validateStream: false }) : text);
}
