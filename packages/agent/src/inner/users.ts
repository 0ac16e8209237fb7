/**
 * The user that commands run as, read from the sprite's disk through the VM's own mount of it:
 * nothing that is mounted inside can hold the agent up. Read again only when the files changed.
 */
import fs from "node:fs";
import { openInRoot, SystemCallError } from "../sys/libc.ts";
import { findUser, parseEnvironment, ROOT_USER, SPRITE_USER, type User } from "../spawn/user.ts";

/** Longest part of passwd or group that is read, bytes. */
const FILE_BYTES_MAX = 256 * 1024;

interface Read {
  stamp: string;
  text: string;
}

export class UserTable {
  readonly #rootFd: number;
  #files = new Map<string, Read>();
  #user: User | undefined;

  /** `root`: directory that is the user's `/`; held open until `close`. */
  constructor(root: string) {
    this.#rootFd = fs.openSync(root, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  }

  close(): void {
    fs.closeSync(this.#rootFd);
  }

  /** The user `sprite`, else root. */
  current(): User {
    const passwd = this.#read("/etc/passwd");
    const group = this.#read("/etc/group");
    const environment = this.#read("/etc/environment");
    if (this.#user && !passwd.changed && !group.changed && !environment.changed) return this.#user;
    const files = { passwd: passwd.text, group: group.text, environment: environment.text };
    this.#user = findUser(SPRITE_USER, files) ?? { ...ROOT_USER, variables: parseEnvironment(environment.text) };
    return this.#user;
  }

  #read(path: string): { text: string; changed: boolean } {
    let fd: number;
    try {
      fd = openInRoot(this.#rootFd, path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      return this.#remember(path, { stamp: error.code, text: "" });
    }
    try {
      const stat = fs.fstatSync(fd, { bigint: true });
      const stamp = `${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
      const known = this.#files.get(path);
      if (known?.stamp === stamp) return { text: known.text, changed: false };
      return this.#remember(path, { stamp, text: stat.isFile() ? readBounded(fd) : "" });
    } finally {
      fs.closeSync(fd);
    }
  }

  #remember(path: string, read: Read): { text: string; changed: boolean } {
    const changed = this.#files.get(path)?.stamp !== read.stamp;
    this.#files.set(path, read);
    return { text: read.text, changed };
  }
}

function readBounded(fd: number): string {
  const bytes = Buffer.alloc(FILE_BYTES_MAX);
  return bytes.subarray(0, fs.readSync(fd, bytes, 0, bytes.length, 0)).toString("utf8");
}
