/** inotify descriptors that raise SIGIO in this process when there is something to read. */
import koffi from "koffi";
import { fcntl, SystemCallError } from "./libc.ts";

const inotifyInit1 = koffi.load(null).func("inotify_init1", "int", ["int"]);

/** A new descriptor, close-on-exec; reading it never blocks. */
export function inotifyOpen(): number {
  const IN_NONBLOCK = 0o4000;
  const IN_CLOEXEC = 0o2000000;
  const fd = Number(inotifyInit1(IN_NONBLOCK | IN_CLOEXEC));
  if (fd < 0) throw new SystemCallError("inotify_init1", koffi.errno());
  return fd;
}

/** Makes the kernel say by SIGIO that `fd` can be read. */
export function raiseSigio(fd: number): void {
  const [F_GETFL, F_SETFL, F_SETOWN] = [3, 4, 8] as const;
  const O_ASYNC = 0o20000;
  fcntl(fd, F_SETOWN, process.pid);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_ASYNC);
}
