import type { EffectiveSetting } from "./load.ts";
import { type ConfigField, configFields } from "./schema.ts";

/** Settings as text for people: `config print` and docs/configuration.md. Pure. */

/** The effective settings as a TOML file with comments that a user can keep as their own. */
export function printSettings(settings: readonly EffectiveSetting[], filePath: string): string {
  const lines = [`# ${filePath}`, "# Effective settings; the comment tells where each value comes from.", ""];
  let section = "";
  for (const { field, value, source } of settings) {
    const [first = "", leaf] = field.key.split(".");
    if (leaf !== undefined && first !== section) {
      section = first;
      lines.push(`[${section}]`);
    }
    lines.push(`# ${field.meta.doc}${field.meta.unit === undefined ? "" : ` Unit: ${field.meta.unit}.`}`);
    const text = `${leaf ?? first} = ${JSON.stringify(value)}`;
    lines.push(`${field.key === "home" ? "# " : ""}${text}  # ${sourceText(field, source)}`, "");
  }
  return lines.join("\n");
}

/** The settings as one JSON object: key → value, source. */
export function settingsJson(settings: readonly EffectiveSetting[]): Record<string, { value: unknown; source: string }> {
  return Object.fromEntries(settings.map(({ field, value, source }) => [field.key, { value, source }]));
}

function sourceText(field: ConfigField, source: EffectiveSetting["source"]): string {
  switch (source) {
    case "environment":
      return `from ${field.variable}`;
    case "file":
      return "from this file";
    case "automatic":
    case "default":
      return field.key === "home" ? `default; set ${field.variable} to change it` : "default";
  }
}

/** The whole of docs/configuration.md. */
export function configurationDocument(): string {
  const rows = configFields().map((field) => {
    const fallback = field.fixedDefault === undefined ? (field.meta.automatic ?? "") : `\`${JSON.stringify(field.fixedDefault)}\``;
    return `| \`${field.key}\` | \`${field.variable}\` | ${typeText(field)} | ${fallback} | ${field.meta.doc} |`;
  });
  return `# Configuration

Settings come from defaults, then \`$SPRITED_HOME/sprited.toml\`, then the environment; later wins. An unknown key, a wrong type
or a value out of range stops the start with a message that names it. \`npx sprited config print\` shows every setting with
its value and where it comes from, in a form that can be saved as \`sprited.toml\`; \`--json\` gives it to scripts.

A list in the environment is separated by commas: \`SPRITED_NETWORK_DNS=9.9.9.9,1.1.1.1\`. An unknown \`SPRITED_\` variable draws a warning.
When root acts for somebody through sudo, the token file belongs to that user.

This page is generated from the schema (\`packages/daemon/src/config/schema.ts\`) by \`node tools/with-node.mjs tools/write-docs.ts\`.

| key | environment | type | default | meaning |
|---|---|---|---|---|
${rows.join("\n")}
`;
}

function typeText(field: ConfigField): string {
  const type = typeof field.type === "string" ? field.type : field.type.map((choice) => `\`${choice}\``).join(", ");
  return field.meta.unit === undefined ? type : `${type}, ${field.meta.unit}`;
}
