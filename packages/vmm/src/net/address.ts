/**
 * IPv4 addresses, ranges and MAC addresses as values that may be put into a command: whatever
 * these functions return is in canonical form and contains nothing but digits, dots, colons and
 * one slash. All of it is pure.
 */

/** A range of IPv4 addresses; `first` is aligned to `prefixLength`. */
export interface Ipv4Range {
  /** Lowest address as an unsigned 32-bit number. */
  readonly first: number;
  readonly prefixLength: number;
}

/** Parses dotted decimal without leading zeros; undefined for anything else. */
export function tryParseIpv4(text: string): number | undefined {
  if (!/^(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}$/.test(text)) return undefined;
  let value = 0;
  for (const part of text.split(".")) {
    const byte = Number(part);
    if (byte > 255) return undefined;
    value = value * 256 + byte;
  }
  return value;
}

/** `value` is an unsigned 32-bit number. */
export function formatIpv4(value: number): string {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join(".");
}

/** Parses `a.b.c.d/n` or a single address; bits below the prefix are cleared. Undefined when it is neither. */
export function tryParseRange(text: string): Ipv4Range | undefined {
  const match = /^([0-9.]{7,15})(?:\/(0|[1-9][0-9]?))?$/.exec(text);
  const address = tryParseIpv4(match?.[1] ?? "");
  const prefixLength = Number(match?.[2] ?? 32);
  if (address === undefined || prefixLength > 32) return undefined;
  return { first: Math.floor(address / rangeSize(prefixLength)) * rangeSize(prefixLength), prefixLength };
}

export function formatRange(range: Ipv4Range): string {
  return `${formatIpv4(range.first)}/${range.prefixLength}`;
}

/** Number of addresses in a range of this prefix length. */
export function rangeSize(prefixLength: number): number {
  return 2 ** (32 - prefixLength);
}

/** Whether every address of `inner` is in `outer`. */
export function rangeContains(outer: Ipv4Range, inner: Ipv4Range): boolean {
  return inner.first >= outer.first && inner.first + rangeSize(inner.prefixLength) <= outer.first + rangeSize(outer.prefixLength);
}

/** Whether the two have an address in common. */
export function rangesOverlap(a: Ipv4Range, b: Ipv4Range): boolean {
  return rangeContains(a, b) || rangeContains(b, a);
}

/** Parses six hex bytes with colons to lower case; undefined for anything else and for group addresses. */
export function tryParseMac(text: string): string | undefined {
  if (!/^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i.test(text)) return undefined;
  if (Number.parseInt(text.slice(0, 2), 16) % 2 === 1) return undefined;
  return text.toLowerCase();
}
