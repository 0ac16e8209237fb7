/** Pseudo-terminals by ioctl. The master stays with the agent; the slave becomes a command's terminal. */
import fs from "node:fs";
import type { TerminalSize } from "@sprited/protocol/guest";
import { ioctl, ioctlValue, SystemCallError } from "../sys/libc.ts";

const IOCTL = { TIOCSPTLCK: 0x40045431, TIOCGPTN: 0x80045430, TIOCGPTPEER: 0x5441, TIOCSWINSZ: 0x5414, TIOCGPGRP: 0x540f } as const;
const OPEN_FLAGS = fs.constants.O_RDWR | fs.constants.O_NOCTTY;

export interface Pty {
  masterFd: number;
  slaveFd: number;
  /** Path of the slave. */
  path: string;
}

/** Opens a new terminal of that size, owned by `uid`. Throws `SystemCallError` or a file error when there is none left. */
export function openPty(size: TerminalSize, owner: { uid: number; gid: number }): Pty {
  const masterFd = fs.openSync("/dev/ptmx", OPEN_FLAGS);
  try {
    const number = Buffer.alloc(4);
    ioctl(masterFd, IOCTL.TIOCSPTLCK, number);
    ioctl(masterFd, IOCTL.TIOCGPTN, number);
    resizePty(masterFd, size);
    const O_CLOEXEC = 0o2000000;
    const slaveFd = ioctlValue(masterFd, IOCTL.TIOCGPTPEER, OPEN_FLAGS | O_CLOEXEC);
    try {
      fs.fchownSync(slaveFd, owner.uid, owner.gid);
      fs.fchmodSync(slaveFd, 0o620);
      return { masterFd, slaveFd, path: `/dev/pts/${number.readInt32LE(0)}` };
    } catch (error) {
      fs.closeSync(slaveFd);
      throw error;
    }
  } catch (error) {
    fs.closeSync(masterFd);
    throw error;
  }
}

export function resizePty(masterFd: number, size: TerminalSize): void {
  const window = Buffer.alloc(8);
  window.writeUInt16LE(size.rows, 0);
  window.writeUInt16LE(size.cols, 2);
  ioctl(masterFd, IOCTL.TIOCSWINSZ, window);
}

/** Foreground process group, as this process sees it; undefined when there is none. */
export function foregroundGroup(masterFd: number): number | undefined {
  const group = Buffer.alloc(4);
  try {
    ioctl(masterFd, IOCTL.TIOCGPGRP, group);
  } catch (error) {
    if (error instanceof SystemCallError) return undefined;
    throw error;
  }
  const value = group.readInt32LE(0);
  return value > 1 ? value : undefined;
}
