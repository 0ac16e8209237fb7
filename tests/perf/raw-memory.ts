/**
 * Raw counterparts of sleep and copies: a VM that goes on with the files of a sleeping sprite, and
 * QEMU alone saving a memory. Nothing is recorded, checked or taken back.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { run } from "@sprited/base";
import { syncFile } from "@sprited/disk";
import type { OpenNetworkSlots } from "@sprited/vmm";
import {
  capabilities,
  prepareRawPlace,
  type QemuCommand,
  RAM_FILE,
  type RawPlace,
  SAVE_FILE,
  STATE_FILE,
  STATE_OFFSET,
  tellQemu,
  type VmTemplate,
} from "./raw-vm.ts";

/** Bytes per second; QEMU's own default is for networks. */
const BANDWIDTH_MAX = 2 ** 40;
const WRITTEN_STATE = "state-now";

/** The files of a sprite that sleeps. */
export interface SleepingFiles {
  diskPath: string;
  ramPath: string;
  statePath: string;
}

/** Where a sprite's files lie. */
export function sleepingFiles(directory: string): SleepingFiles {
  const at = (...parts: string[]): string => path.join(directory, ...parts);
  return { diskPath: at("disk.raw"), ramPath: at("memory", "ram"), statePath: at("memory", "state") };
}

/** A place whose disk and memory are clones of a sleeping sprite's; the memory is read once, as that of a sprite that has just run is. */
export async function prepareSleepingPlace(options: {
  directory: string;
  slots: OpenNetworkSlots;
  files: SleepingFiles;
}): Promise<RawPlace> {
  const place = await prepareRawPlace({ directory: options.directory, slots: options.slots });
  try {
    await cloneSleeping(options.files, place);
    await run("sh", ["-c", 'cat "$0" "$1" >/dev/null', path.join(place.directory, RAM_FILE), path.join(place.directory, STATE_FILE)]);
    return place;
  } catch (error) {
    await place[Symbol.asyncDispose]();
    throw error;
  }
}

/** Clones disk and memory of a sleeping sprite into an empty place. */
export async function cloneSleeping(files: SleepingFiles, place: RawPlace): Promise<void> {
  const at = (name: string): string => path.join(place.directory, name);
  const clones = [
    [files.diskPath, place.diskPath],
    [files.ramPath, at(RAM_FILE)],
    [files.statePath, at(STATE_FILE)],
  ] as const;
  for (const [from, to] of clones) await fs.copyFile(from, to, fs.constants.COPYFILE_FICLONE_FORCE);
}

/** Stops the vCPUs and writes what is not in files yet, flushed to the disk: device state, and all RAM of a VM without a file of its own. */
export async function stopAndSave(template: VmTemplate, place: RawPlace): Promise<void> {
  const isOwn = template.ownRamFd !== undefined;
  const uri = isOwn ? `file:${WRITTEN_STATE},offset=${STATE_OFFSET}` : `file:/dev/fdset/${template.saveFd},offset=${STATE_OFFSET}`;
  const commands: QemuCommand[] = [
    ["stop"],
    ["migrate-set-capabilities", capabilities({ mapped: !isOwn })],
    ["migrate-set-parameters", { "max-bandwidth": BANDWIDTH_MAX }],
    ["migrate", { uri }],
  ];
  await tellQemu(socketOf(place), commands, '"completed"');
  const written = isOwn ? [WRITTEN_STATE, RAM_FILE] : [SAVE_FILE];
  await Promise.all(written.map((name) => syncFile(path.join(place.directory, name))));
}

/** Lets the vCPUs of a stopped raw VM run. */
export async function goOn(place: RawPlace): Promise<void> {
  await tellQemu(socketOf(place), [["cont"]], '"RESUME"');
}

function socketOf(place: RawPlace): string {
  return path.join(place.directory, "qmp.sock");
}
