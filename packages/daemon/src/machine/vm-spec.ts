/** What a sprite's VM is made of, as the VMM sees it. Pure. The same for boot snapshots and for sprites: that is what makes one resume as the other. */
import { BOOT_PORT, LINK_PORT, MANAGEMENT_NETWORK, USER_NETWORK } from "@sprited/protocol/guest";
import type { SystemImage } from "@sprited/disk";
import type { NetworkSlot, VmShape, VmSpec } from "@sprited/vmm";

/** Serial of the sprite's disk; the agent finds it by this. */
export const ROOT_DISK_SERIAL = "sprite";
/** Serial of the system image; the initrd finds it by this. */
const SYSTEM_DISK_SERIAL = "system";

/**
 * `tsc=reliable` lets an idle guest sleep under emulation; `panic=-1 reboot=t` makes a guest
 * panic end the VMM process at once.
 */
const COMMAND_LINE = "console=ttyS0 quiet loglevel=3 tsc=reliable random.trust_cpu=1 panic=-1 reboot=t";

export interface VmSpecInput {
  incarnation: string;
  directory: string;
  shape: VmShape;
  system: SystemImage;
  diskPath: string;
  slot: NetworkSlot | undefined;
  memory: VmSpec["memory"];
}

export function vmSpec(input: VmSpecInput): VmSpec {
  const { slot } = input;
  return {
    incarnation: input.incarnation,
    directory: input.directory,
    shape: input.shape,
    kernel: { imagePath: input.system.kernelPath, initrdPath: input.system.initrdPath, commandLine: COMMAND_LINE },
    disks: [
      { serial: SYSTEM_DISK_SERIAL, path: input.system.systemPath, readOnly: true },
      { serial: ROOT_DISK_SERIAL, path: input.diskPath, readOnly: false },
    ],
    nics: slot
      ? [
          { mac: MANAGEMENT_NETWORK.guestMac, tap: slot.managementTap },
          { mac: USER_NETWORK.guestMac, tap: slot.userTap },
        ]
      : [],
    ports: [BOOT_PORT, LINK_PORT],
    memory: input.memory,
    jail: slot ? { uid: slot.uid, gid: slot.gid, netnsPath: slot.netnsPath } : undefined,
  };
}
