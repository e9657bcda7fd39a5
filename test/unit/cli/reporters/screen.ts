import xterm from "@xterm/headless";
import { Writable } from "node:stream";

/** An emulated terminal, whose lines can be read as a person would see them. */
export function screen(columns: number, rows: number) {
  const terminal = new xterm.Terminal({ cols: columns, rows, scrollback: 10_000, allowProposedApi: true, convertEol: true });
  const tty = () => {
    // Synchronously, as a terminal's streams write.
    const stream = new Writable({
      write(data: Buffer, _, done) {
        terminal.write(data);
        done();
      },
    });
    return Object.assign(stream, { isTTY: true, columns, rows });
  };
  const streams = [tty(), tty()];
  return {
    stdout: streams[0] as Writable & { columns: number; rows: number },
    stderr: streams[1] as unknown as NodeJS.WriteStream,
    resize(toColumns: number, toRows: number) {
      terminal.resize(toColumns, toRows);
      for (const stream of streams) Object.assign(stream, { columns: toColumns, rows: toRows });
    },
    /** Every line up to the last that is not blank, including those that scrolled away. */
    async lines(): Promise<string[]> {
      await new Promise<void>((resolve) => terminal.write("", resolve));
      const { active } = terminal.buffer;
      const all = Array.from({ length: active.length }, (_, line) => active.getLine(line)?.translateToString(true).trimEnd() ?? "");
      return all.join("\n").trimEnd().split("\n");
    },
  };
}
