import { z } from "zod";

/** Host → agent on the boot port (BOOT-3, BOOT-6). */
export const bootRequest = z.discriminatedUnion("type", [
  z.object({ type: z.literal("probe") }),
  z.object({
    type: z.literal("bootstrap"),
    generation: z.int(),
    /** Id of this VM run. */
    incarnation: z.string().min(1).max(64),
    /** 32 bytes, base64: proves both ends of the link. */
    key: z.base64(),
    /** Wall time at sending, ms since the epoch. */
    time_ms: z.number(),
    /** 64 bytes, base64, for the guest's RNG. */
    entropy: z.base64(),
    identity: z.object({
      hostname: z.string(),
      /** 32 hex digits. */
      machine_id: z.string(),
      /** Whether host keys and the machine id on the disk must be made anew. */
      renew: z.boolean(),
    }),
    /** True when the memory came from another sprite or another time: its connections to the outside are ended (BOOT-7). */
    drop_connections: z.boolean().optional(),
    /** The sprite's environment, added to every command's. */
    environment: z.record(z.string(), z.string()),
    /** Serial of the block device that holds the user's root. */
    root_serial: z.string(),
  }),
  z.object({
    type: z.literal("link"),
    /** 32 hex digits that mark where the new serial link begins. */
    nonce: z.string().regex(/^[0-9a-f]{32}$/),
  }),
]);
export type BootRequest = z.infer<typeof bootRequest>;
export type Bootstrap = Extract<BootRequest, { type: "bootstrap" }>;

/** Agent → host on the boot port (BOOT-2, BOOT-4). */
export const bootReply = z.discriminatedUnion("type", [
  z.object({ type: z.literal("idle"), generation: z.int(), agent_version: z.string().max(64) }),
  z.object({ type: z.literal("bootstrapped"), incarnation: z.string().max(64) }),
  z.object({
    type: z.literal("failed"),
    incarnation: z.string().max(64),
    step: z.string().max(64),
    message: z.string().max(4096),
  }),
]);
export type BootReply = z.infer<typeof bootReply>;
