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

const listeners = new Set<() => void>();
let isListening = false;

/**
 * Calls `listener` whenever `fd`, or another such descriptor, may have something to read. Returns
 * how to stop. The signal's handler stays: one that comes late would end the process.
 */
export function onReadable(fd: number, listener: () => void): () => void {
  if (!isListening) {
    isListening = true;
    // oxlint-disable-next-line house/no-process-on -- how the kernel says that there are events
    process.on("SIGIO", () => {
      for (const one of listeners) one();
    });
  }
  listeners.add(listener);
  raiseSigio(fd);
  return () => void listeners.delete(listener);
}

function raiseSigio(fd: number): void {
  const [F_GETFL, F_SETFL, F_SETOWN] = [3, 4, 8] as const;
  const O_ASYNC = 0o20000;
  fcntl(fd, F_SETOWN, process.pid);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_ASYNC);
}
