/** Query parameters as text. No schema library here: clients that must start fast use it. */

/** Values as form-encoded text; `true` for booleans, repeated keys for lists. */
export function queryToText(query: Readonly<Record<string, unknown>>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue;
    for (const item of Array.isArray(value) ? value : [value]) parameters.append(name, String(item));
  }
  return parameters.toString();
}
