/**
 * Who commands run as, read from the user's own `/etc/passwd`, `/etc/group` and
 * `/etc/environment`. Their content is the user's to write: parsing is bounded and never throws. Pure.
 */

/** Name of the user that commands run as. */
export const SPRITE_USER = "sprite";
/** Most supplementary groups the kernel is asked for. */
const GROUPS_MAX = 256;
/** Most variables an image sets. */
const VARIABLES_MAX = 256;
const ID_MAX = 0xfffffffe;

export interface User {
  name: string;
  uid: number;
  gid: number;
  groups: readonly number[];
  home: string;
  shell: string;
  /** What the image sets for everyone. */
  variables: Readonly<Record<string, string>>;
}

/** Who commands run as when the user's root names no such user. */
export const ROOT_USER: User = { name: "root", uid: 0, gid: 0, groups: [0], home: "/root", shell: "/bin/sh", variables: {} };

/** The files that say who a user is. */
export interface UserFiles {
  passwd: string;
  group: string;
  environment: string;
}

/** Finds `name`; undefined when passwd has no usable line for it. */
export function findUser(name: string, { passwd, group, environment }: UserFiles): User | undefined {
  for (const line of passwd.split("\n")) {
    const [entry, , uidText, gidText, , home, shell] = line.split(":");
    if (entry !== name) continue;
    const uid = parseId(uidText);
    const gid = parseId(gidText);
    if (uid === undefined || gid === undefined) return undefined;
    return {
      name,
      uid,
      gid,
      groups: groupsOf(name, gid, group),
      home: absolute(home) ?? "/",
      shell: absolute(shell?.trim()) ?? "/bin/sh",
      variables: parseEnvironment(environment),
    };
  }
  return undefined;
}

/** Lines of `/etc/environment`: `NAME=value`, the value plain or in quotes. Others are passed over. */
export function parseEnvironment(text: string): Record<string, string> {
  const variables: Record<string, string> = {};
  let count = 0;
  for (const line of text.split("\n")) {
    const [, name, value] = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*?)\s*$/.exec(line) ?? [];
    if (name === undefined || value === undefined || value.includes("\0")) continue;
    if ((count += 1) > VARIABLES_MAX) break;
    const [, quoted] = /^(?:"(.*)"|'(.*)')$/.exec(value) ?? [];
    variables[name] = quoted ?? /^'(.*)'$/.exec(value)?.[1] ?? value;
  }
  return variables;
}

/** The number of `name` in the text of passwd or group; both have it in the third field. */
export function findId(name: string, table: string): number | undefined {
  for (const line of table.split("\n")) {
    const [entry, , id] = line.split(":");
    if (entry === name) return parseId(id);
  }
  return undefined;
}

function groupsOf(name: string, gid: number, group: string): number[] {
  const groups = new Set([gid]);
  for (const line of group.split("\n")) {
    if (groups.size >= GROUPS_MAX) break;
    const [, , idText, members] = line.split(":");
    const id = parseId(idText);
    if (id !== undefined && members?.trim().split(",").includes(name)) groups.add(id);
  }
  return [...groups];
}

function parseId(text: string | undefined): number | undefined {
  if (text === undefined || !/^[0-9]{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= ID_MAX ? id : undefined;
}

function absolute(path: string | undefined): string | undefined {
  return path?.startsWith("/") && !path.includes("\0") ? path : undefined;
}
