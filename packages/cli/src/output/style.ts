/** Colours for standard output and error; none without a terminal or with NO_COLOR. */
import { styleText } from "node:util";

type Format = Parameters<typeof styleText>[0];
export type Paint = (format: Format, text: string) => string;

function painter(stream: NodeJS.WriteStream): Paint {
  return (format, text) => styleText(format, text, { stream });
}

/** For text that goes to standard output. */
export const out: Paint = (format, text) => painter(process.stdout)(format, text);
/** For text that goes to standard error. */
export const err: Paint = (format, text) => painter(process.stderr)(format, text);

/** Colour of a sprite's status. */
export function statusFormat(status: string | undefined): Format {
  if (status === "running") return "green";
  if (status === "warm") return "yellow";
  return "gray";
}
