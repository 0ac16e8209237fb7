/** What the link's thread and a file worker tell each other. */
import type { FileFailure, FileRecord, FileRequest, TreeEntry } from "@sprited/protocol/guest";
import type { Caller } from "./caller.ts";

export type ToWorker =
  | { type: "call"; id: number; request: FileRequest; caller: Caller; rootFd: number; home: string }
  | { type: "data"; id: number; bytes: Uint8Array }
  | { type: "entry"; id: number; entry: TreeEntry }
  | { type: "end"; id: number }
  /** That many bytes of output are on their way. */
  | { type: "sent"; id: number; bytes: number }
  | { type: "abort"; id: number }
  /** Adds watches to an inotify descriptor; answered by `watched`. */
  | {
      type: "watch";
      id: number;
      path: string;
      recursive: boolean;
      caller: Caller;
      rootFd: number;
      home: string;
      inotifyFd: number;
      room: number;
    }
  /** Lets go of everything that is kept. */
  | { type: "clear"; id: number };

/** A directory or file that is watched now. */
export interface Watched {
  watch: number;
  path: string;
  isDirectory: boolean;
}

export type FromWorker =
  | { type: "record"; id: number; record: FileRecord }
  | { type: "data"; id: number; bytes: Uint8Array<ArrayBuffer> }
  /** That many bytes of input were taken. */
  | { type: "taken"; id: number; bytes: number }
  | { type: "done"; id: number }
  | { type: "failed"; id: number; failure: FileFailure }
  | { type: "watched"; id: number; watched: Watched[]; isFull: boolean }
  | { type: "cleared"; id: number };
