/**
 * The only allowed way to drop a rejection: `.catch(ignore("socket is closing anyway"))`.
 * The reason is for the reader; nothing is logged.
 */
export function ignore(_reason: string): (error: unknown) => undefined {
  return () => undefined;
}
