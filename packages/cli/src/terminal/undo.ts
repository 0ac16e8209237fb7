/**
 * The control sequences that put a terminal back as it was before the remote output. Pure.
 *
 * Invariants: only changed modes are undone, plus two resets that cannot harm (attributes, cursor
 * shown); nothing is cleared, and the cursor stays where it is except where leaving the alternate
 * screen or origin mode moves it by itself; the title is left alone.
 */
import { type KittyKeys, type ModeTracker, PRIVATE_MODES } from "./mode-tracker.ts";

const ESC = "\x1b";
const CSI = `${ESC}[`;
const ST = `${ESC}\\`;

/** Modes that make the terminal send bytes; off first, so that none arrive later. */
const REPORTING_MODES = [9, 1000, 1001, 1002, 1003, 1005, 1006, 1015, 1016, 1004, 2004, 2031, 2048];
/** Modes whose order needs care, written on their own. */
const HANDLED_APART = new Set([...REPORTING_MODES, 2026, 6, 25]);

/** Bytes to write to the terminal. */
export function undoSequence(modes: ModeTracker): string {
  return [
    abort(modes),
    put(modes, 2026),
    ...REPORTING_MODES.map((mode) => put(modes, mode)),
    ...keys(modes),
    ...screen(modes),
    ...[...modes.privateModes.keys()].filter((mode) => !HANDLED_APART.has(mode)).map((mode) => put(modes, mode)),
    modes.keypad ? `${ESC}>` : "",
    modes.insert ? `${CSI}4l` : "",
    modes.newlineMode ? `${CSI}20l` : "",
    charsets(modes),
    modes.hyperlink ? `${ESC}]8;;${ST}` : "",
    modes.progress ? `${ESC}]9;4;0${ST}` : "",
    ...[...modes.colours].map((code) => `${ESC}]${code}${ST}`),
    modes.cursorShape ? `${CSI}0 q` : "",
    `${CSI}0m`,
    `${CSI}?25h`,
  ].join("");
}

/** Ends a sequence that the output broke off in; a string also gets its terminator, for terminals that know no CAN there. */
function abort(modes: ModeTracker): string {
  if (modes.unfinished === "nothing") return "";
  return modes.unfinished === "string" ? `\x18${ST}` : "\x18";
}

/** A private mode back to what it was; nothing when it is. */
function put(modes: ModeTracker, mode: number): string {
  return modes.privateModes.has(mode) ? `${CSI}?${mode}${PRIVATE_MODES.get(mode) ? "h" : "l"}` : "";
}

function keys(modes: ModeTracker): string[] {
  return [...[...modes.keyResources].map((resource) => `${CSI}>${resource}m`), modes.keyFormat ? `${CSI}>4f` : ""];
}

/**
 * Leaves the alternate screen; each screen has keyboard flags of its own. Origin mode and margins
 * send the cursor home: while mode 1049 is on that does no harm, because leaving it puts the
 * cursor back.
 */
function screen(modes: ModeTracker): string[] {
  const alternateKeys = kittyKeys(modes.kitty.alternate);
  const mainKeys = kittyKeys(modes.kitty.main);
  if (modes.alternate === 1049) return [alternateKeys, put(modes, 6), modes.margins ? `${CSI}r` : "", `${CSI}?1049l`, mainKeys];
  if (modes.alternate !== undefined) return [alternateKeys, `${CSI}?${modes.alternate}l`, mainKeys, geometry(modes)];
  return [alternateKeys === "" ? "" : `${CSI}?1049h${alternateKeys}${CSI}?1049l`, mainKeys, geometry(modes)];
}

function kittyKeys(keys: KittyKeys): string {
  return `${keys.pushed > 0 ? `${CSI}<${keys.pushed}u` : ""}${keys.set ? `${CSI}=0u` : ""}`;
}

/** Origin mode and margins on the main screen. The cursor is kept where that is possible. */
function geometry(modes: ModeTracker): string {
  if (modes.privateModes.has(6)) return `${CSI}?6l${modes.margins ? `${CSI}r` : ""}${CSI}999;1H`;
  return modes.margins ? `${ESC}7${CSI}r${ESC}8` : "";
}

function charsets(modes: ModeTracker): string {
  const designations = [...modes.charsets.designated.keys()].map((slot) => `${ESC}${slot}B`);
  return [modes.otherCodingSystem ? `${ESC}%G` : "", ...designations, modes.charsets.active === 0 ? "" : "\x0f"].join("");
}
