/**
 * From a definition to what the build does: files laid over the tree, scripts run in it, arguments
 * of mmdebstrap. Pure; the order of the steps is
 * `early files → packages → user → overlay → configure`.
 */
import { DEBIAN_KEYRING, type AptSource } from "../apt/private-apt.ts";
import { aptPackages, type ImageDefinition } from "./definition.ts";

/** Address of the name server in every VM: the host's end of the sprite's network. */
export const GUEST_NAME_SERVER = "10.117.0.1";
/** Scripts of the build, inside the tree; gone at the end. */
const BUILD_DIRECTORY = "/var/tmp/sprited-build";
/** Manifest inside the image. */
export const MANIFEST_IN_IMAGE = "/usr/share/sprited/manifest.json";

const OFFICIAL_MIRROR = "http://deb.debian.org/debian";
const OFFICIAL_SECURITY_MIRROR = "http://deb.debian.org/debian-security";

export interface TreeFile {
  /** Absolute inside the image. */
  path: string;
  content: string;
  mode: number;
}

/** Files that must be there before packages are configured. */
export function earlyFiles(definition: ImageDefinition): TreeFile[] {
  return definition.files.filter((file) => file.early).map(treeFile);
}

/** Files laid over the installed tree: ours first, the definition's last, so that it can replace ours. */
export function overlayFiles(definition: ImageDefinition): TreeFile[] {
  const { user } = definition;
  const ours: TreeFile[] = [
    { path: "/etc/hostname", content: "sprite\n", mode: 0o644 },
    { path: "/etc/hosts", content: "127.0.0.1\tlocalhost sprite\n::1\tlocalhost ip6-localhost ip6-loopback\n", mode: 0o644 },
    { path: "/etc/resolv.conf", content: `nameserver ${GUEST_NAME_SERVER}\n`, mode: 0o644 },
    { path: "/etc/machine-id", content: "", mode: 0o444 },
    {
      path: "/etc/environment",
      content: Object.entries(definition.env)
        .map(([key, value]) => `${key}="${value}"\n`)
        .join(""),
      mode: 0o644,
    },
    { path: "/etc/profile.d/sprited.sh", content: profileScript(definition.env), mode: 0o644 },
    { path: "/etc/apt/sources.list.d/debian.sources", content: officialSources(definition.suite), mode: 0o644 },
    { path: `${BUILD_DIRECTORY}/configure.sh`, content: configureScript(definition), mode: 0o755 },
  ];
  if (user.sudo) ours.push({ path: `/etc/sudoers.d/${user.name}`, content: `${user.name} ALL=(ALL:ALL) NOPASSWD:ALL\n`, mode: 0o440 });
  definition.run.forEach((command, index) => {
    ours.push({ path: `${BUILD_DIRECTORY}/run-${index + 1}.sh`, content: `${command}\n`, mode: 0o755 });
  });
  return [...ours, ...definition.files.filter((file) => !file.early).map(treeFile)];
}

function treeFile(file: ImageDefinition["files"][number]): TreeFile {
  return { path: file.path, content: file.content, mode: Number.parseInt(file.mode, 8) };
}

function profileScript(env: Readonly<Record<string, string>>): string {
  const lines = Object.entries(env).map(([key, value]) => `export ${key}=${shellQuote(value)}\n`);
  return `# The image's environment: /etc/profile has just set PATH to Debian's own.\n${lines.join("")}`;
}

/** Debian's own mirror, whatever the image was built from. */
function officialSources(suite: string): string {
  const source = (uri: string, suites: string): string =>
    `Types: deb\nURIs: ${uri}\nSuites: ${suites}\nComponents: main\nSigned-By: ${DEBIAN_KEYRING}\n`;
  return `${source(OFFICIAL_MIRROR, `${suite} ${suite}-updates`)}\n${source(OFFICIAL_SECURITY_MIRROR, `${suite}-security`)}`;
}

/** Makes the user; before the overlay, so that the home gets the usual files first. */
export function userScript(user: ImageDefinition["user"]): string {
  const { name, uid, home, shell } = user;
  return [
    `groupadd --gid ${uid} ${shellQuote(name)}`,
    `useradd --uid ${uid} --gid ${uid} --create-home --home-dir ${shellQuote(home)} --shell ${shellQuote(shell)} ${shellQuote(name)}`,
  ].join(" && ");
}

function configureScript(definition: ImageDefinition): string {
  const { user } = definition;
  const owned = definition.files
    .filter((file) => file.owner === "user")
    .map((file) => `chown ${user.uid}:${user.uid} ${shellQuote(file.path)}`);
  return [
    "#!/bin/sh",
    "set -eu",
    "export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root",
    "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    // Packages from npm came in without running their install scripts on the host.
    ...(definition.npm ? ["npm rebuild --global --offline --foreground-scripts --no-update-notifier"] : []),
    ...definition.run.map((_, index) => `sh -eu ${BUILD_DIRECTORY}/run-${index + 1}.sh`),
    `chown -R ${user.uid}:${user.uid} ${shellQuote(user.home)}`,
    ...owned,
    "rm -f /etc/apt/sources.list /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub",
    "rm -rf /root/.npm /root/.cache /var/cache/man /var/cache/debconf/*-old /var/lib/dpkg/*-old",
    "find /var/log -type f -delete",
    `rm -rf ${BUILD_DIRECTORY}`,
    "",
  ].join("\n");
}

export interface BootstrapPaths {
  /** Directory that becomes the tree; without root a tar file of it. */
  target: string;
  /** tar of the early files; undefined when there are none. */
  earlyTar: string | undefined;
  /** tar of the overlay. */
  overlayTar: string;
  /** tar of what npm brought, for `/`; undefined when there is none. */
  npmTar: string | undefined;
}

/** Arguments of mmdebstrap. `aptSettings` are the host's proxy settings. */
export function bootstrapArgs(
  definition: ImageDefinition,
  options: { paths: BootstrapPaths; isRoot: boolean; sources: readonly AptSource[]; aptSettings: Readonly<Record<string, string>> },
): string[] {
  const { paths, sources, aptSettings } = options;
  const include = [...new Set([...aptPackages(definition), ...(definition.user.sudo ? ["sudo"] : [])])];
  const hook = (when: string, ...command: string[]): string => `--${when}-hook=${command.map(shellQuote).join(" ")}`;
  return [
    ...(options.isRoot ? ["--mode=root", "--format=directory"] : ["--mode=unshare", "--format=tar"]),
    "--variant=minbase",
    "--verbose",
    "--architectures=amd64",
    "--components=main",
    `--keyring=${DEBIAN_KEYRING}`,
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::Retries "3"',
    ...Object.entries(aptSettings).map(([key, value]) => `--aptopt=${key} "${value.replaceAll('"', "")}"`),
    // A build that loses power is made anew: flushing every file would only take time.
    "--dpkgopt=force-unsafe-io",
    ...(definition.apt.docs ? [] : LEFT_OUT.map((one) => `--dpkgopt=${one}`)),
    // Java and PostgreSQL put links to manual pages there and fail when the folders are missing.
    ...(definition.apt.docs
      ? []
      : [`--essential-hook=mkdir -p ${MANUAL_SECTIONS.map((section) => `"$1/usr/share/man/man${section}"`).join(" ")}`]),
    ...(include.length === 0 ? [] : [`--include=${include.join(",")}`]),
    ...(paths.earlyTar === undefined ? [] : [hook("essential", "tar-in", paths.earlyTar, "/")]),
    `--customize-hook=chroot "$1" sh -c ${shellQuote(userScript(definition.user))}`,
    ...(paths.npmTar === undefined ? [] : [hook("customize", "tar-in", paths.npmTar, "/")]),
    hook("customize", "tar-in", paths.overlayTar, "/"),
    `--customize-hook=chroot "$1" ${BUILD_DIRECTORY}/configure.sh`,
    definition.suite,
    paths.target,
    ...sources.map(({ uri, suite }) => `deb ${uri} ${suite} main`),
  ];
}

const MANUAL_SECTIONS = [1, 2, 3, 4, 5, 6, 7, 8];

const LEFT_OUT = [
  "path-exclude=/usr/share/man/*",
  "path-exclude=/usr/share/info/*",
  "path-exclude=/usr/share/locale/*",
  "path-exclude=/usr/share/doc/*",
  "path-include=/usr/share/doc/*/copyright",
];

/** One word for a shell. */
export function shellQuote(word: string): string {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
