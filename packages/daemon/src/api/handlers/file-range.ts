/** `Range: bytes=…` of one part. Pure. */

/** `offset` below 0: so many bytes before the end; `length` null: up to the end. */
export interface PartOf {
  offset: number;
  length: number | null;
}

/** Undefined when there is no range, or one that this server does not answer in part: then all is sent. */
export function askedRange(header: string | null): PartOf | undefined {
  const [, first, last] = /^bytes=([0-9]{0,15})-([0-9]{0,15})$/.exec(header?.trim() ?? "") ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return undefined;
  if (first === "") return last === "0" || Number(last) === 0 ? undefined : { offset: -Number(last), length: null };
  if (last === "") return { offset: Number(first), length: null };
  return Number(last) < Number(first) ? undefined : { offset: Number(first), length: Number(last) - Number(first) + 1 };
}
