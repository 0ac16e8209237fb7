/**
 * Every exit code of `sprited`, `npm start` and `npm test`. docs/exit-codes.md is generated from it.
 *
 * Invariants: a class of failure keeps its number for good; numbers are unique; 128 + n means
 * "ended by signal n" as everywhere.
 */
export const EXIT_CODES = {
  ok: { code: 0, meaning: "Done." },
  failed: { code: 1, meaning: "A failure without a number of its own; the message says which." },
  usage: { code: 2, meaning: "The command line is wrong." },
  config: { code: 3, meaning: "A setting is unknown, of the wrong type or out of range." },
  doctor: { code: 4, meaning: "`sprited doctor` found something that blocks." },
  unsupported_host: { code: 10, meaning: "Not Linux on x86-64." },
  old_node: { code: 11, meaning: "The Node that begins the start is older than 18." },
  not_root: { code: 12, meaning: "A step needs root, and neither root nor sudo can be had." },
  no_network: { code: 13, meaning: "A source of packages cannot be reached, and what is needed is not there yet." },
  no_space: { code: 14, meaning: "Not enough free disk space; nothing was begun." },
  port_busy: { code: 15, meaning: "The address of the API is in use by another program." },
  home_busy: { code: 16, meaning: "Another daemon or set-up works on the same home." },
  unknown_distribution: { code: 17, meaning: "Programs are missing and the distribution is neither Debian nor Ubuntu." },
  packages_failed: { code: 18, meaning: "The system's package manager failed or stayed locked." },
  dependencies: { code: 19, meaning: "`npm ci` failed for another reason than network or space." },
  home_unusable: { code: 20, meaning: "The home cannot be made or written." },
  image_failed: { code: 21, meaning: "A base image could not be built." },
  system_failed: { code: 22, meaning: "Kernel, QEMU or system image could not be made." },
  vmm_failed: { code: 23, meaning: "No virtual machine could be started on this host." },
  daemon_unreachable: { code: 24, meaning: "The command needs a running daemon and none answers." },
  not_set_up: { code: 25, meaning: "The command needs a home whose set-up is done." },
} as const satisfies Record<string, { code: number; meaning: string }>;

export type ExitName = keyof typeof EXIT_CODES;

/** The whole of docs/exit-codes.md. */
export function exitCodesDocument(): string {
  const rows = Object.entries(EXIT_CODES).map(([name, { code, meaning }]) => `| ${code} | \`${name}\` | ${meaning} |`);
  return `# Exit codes

Of \`sprited\`, \`npm start\` and \`npm test\`. A number never changes its meaning. 128 + n: ended by signal n.
\`npm\` itself passes these on. The exit codes of the \`sprite\` command are those of the official one.

This page is generated from \`packages/daemon/src/commands/exit-codes.ts\` by \`node tools/with-node.mjs tools/write-docs.ts\`.

| code | name | meaning |
|---|---|---|
${rows.join("\n")}
`;
}
