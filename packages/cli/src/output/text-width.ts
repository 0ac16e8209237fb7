/** How many columns of a terminal a text takes, and texts without terminal controls. Pure. */

/** Made on first use: it takes longer to make than a short command to run. */
let segmenter: Intl.Segmenter | undefined;

/** East Asian wide and full-width ranges, and emoji shown as pictures. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|\ufe0f|[\u{20000}-\u{3fffd}]/u;

/** Columns of `text`, which must have no control characters. */
export function textWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  segmenter ??= new Intl.Segmenter(undefined, { granularity: "grapheme" });
  let width = 0;
  for (const { segment } of segmenter.segment(text)) width += WIDE.test(segment) ? 2 : /^[\p{Mn}\p{Cf}]+$/u.test(segment) ? 0 : 1;
  return width;
}

/** `text` with control characters shown as `?`: what a server sends must not steer the terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, "?");
}
