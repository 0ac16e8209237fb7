/** A feature that a test does not use: whatever is asked of it fails with its name. */
export function unusedFeature<T extends object>(name: string): T {
  return new Proxy({} as T, {
    get(_target, property) {
      throw new Error(`the test uses ${name}.${String(property)}, which it has not got`);
    },
  });
}
