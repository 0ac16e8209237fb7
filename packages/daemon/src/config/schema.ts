import { isIP } from "node:net";
import { z } from "zod";

/**
 * Every setting there is: type, limits, default, unit and meaning, in one schema. The TOML file
 * and the environment both feed it; docs/configuration.md is generated from it.
 *
 * Invariants: a leaf has a `doc`; a leaf without a `.default()` has an `automatic` text and gets
 * its value from the host (`host-defaults.ts`), so that every setting always has a value.
 */

/** What a leaf says about itself beside its type. */
export interface FieldMeta {
  /** One sentence: what it is for. */
  doc: string;
  /** Unit of the value, for people. */
  unit?: string;
  /** How the value comes about when nothing is set and no fixed default exists. */
  automatic?: string;
}

/** Largest disk that is offered, GiB; sparse, but its file system's own tables grow with it. */
export const STORAGE_GB_MAX = 2000;

function about(doc: string, rest: Omit<FieldMeta, "doc"> = {}): FieldMeta & Record<string, unknown> {
  return { doc, ...rest };
}

const count = z.int().min(0);
const seconds = z.int().min(0).max(31_536_000);
const milliseconds = z.int().min(1).max(86_400_000);
const ipAddress = z.string().refine((text) => isIP(text) !== 0, "must be an IP address, for example 9.9.9.9");
const ipv4Network = z.string().refine(isIpv4Network, "must be an IPv4 network, for example 10.118.0.0/16");

export const configSchema = z.strictObject({
  home: z
    .string()
    .min(1)
    .meta(
      about("Directory that holds all state: images, disks, database, token.", {
        automatic: "`/var/lib/sprited` for root, `$XDG_STATE_HOME/sprited` (`~/.local/state/sprited`) for anyone else",
      }),
    ),
  listen: z
    .string()
    .refine((text) => parseListen(text) !== undefined, "must be HOST:PORT, for example 127.0.0.1:7780 or [::1]:7780")
    .default("127.0.0.1:7780")
    .meta(about("Address and port of the HTTP API. Port 0 takes a free one.")),
  log: z.strictObject({
    level: z.enum(["debug", "info", "warn", "error"]).default("info").meta(about("Least important lines that are written.")),
  }),
  sprite: z.strictObject({
    cpus: z
      .int()
      .min(1)
      .max(64)
      .meta(about("Virtual CPUs of a new sprite.", { automatic: "2, at most the host's" })),
    memory_mb: z
      .int()
      .min(256)
      .meta(about("Memory of a new sprite.", { unit: "MiB", automatic: "2048, at most half of the host's" })),
    storage_gb: z
      .int()
      .min(5)
      .max(STORAGE_GB_MAX)
      .default(100)
      .meta(about("Size of a new sprite's disk. Sparse: only what is written takes room.", { unit: "GiB" })),
    image: z.string().min(1).default("default").meta(about("Base image of a new sprite.")),
    idle_seconds: seconds
      .default(30)
      .meta(
        about("Time without activity until a sprite is paused; any request wakes it. 0: never. Sprites can have their own.", { unit: "s" }),
      ),
    hibernate_after_seconds: seconds
      .default(300)
      .meta(about("Time paused until a sprite's memory goes into a file and its machine ends. 0: never by itself.", { unit: "s" })),
  }),
  limits: z.strictObject({
    cpus: z
      .int()
      .min(1)
      .meta(about("Most virtual CPUs one sprite may have.", { automatic: "the host's" })),
    memory_mb: z
      .int()
      .min(256)
      .meta(about("Most memory one sprite may have.", { unit: "MiB", automatic: "the host's" })),
    storage_gb: z
      .int()
      .min(5)
      .max(STORAGE_GB_MAX)
      .meta(
        about("Largest disk one sprite may have.", {
          unit: "GiB",
          automatic: "size of the file system of `home`, at least `sprite.storage_gb`",
        }),
      ),
    running_memory_mb: z
      .int()
      .min(256)
      .meta(
        about(
          "Memory that all running and paused sprites may have together. Who does not fit waits until idle ones sleep, or is refused.",
          {
            unit: "MiB",
            automatic: "three times the host's: a sprite seldom uses all it may have",
          },
        ),
      ),
    starts_parallel: z
      .int()
      .min(1)
      .meta(
        about("Machines that start or resume at the same time; further ones take their turn. At once each would take as long as all.", {
          automatic: "twice the number of CPUs, at least 4",
        }),
      ),
    memory_reserve_mb: z
      .int()
      .min(0)
      .meta(
        about("Memory that stays free on the host: below it no further sprite is started.", {
          unit: "MiB",
          automatic: "a sixteenth of the host's, 256 to 4096",
        }),
      ),
  }),
  vmm: z.strictObject({
    accelerator: z
      .enum(["auto", "kvm", "tcg"])
      .default("auto")
      .meta(about("How guest code is executed: `auto` tries a boot with KVM and falls back to emulation (TCG).")),
    qemu_path: z
      .string()
      .default("")
      .meta(about("QEMU program to use. Empty: the newest of the host's own and the privately unpacked one.")),
    tb_size_mb: z
      .int()
      .min(16)
      .max(4096)
      .default(64)
      .meta(about("Cache for translated code per emulated VM.", { unit: "MiB" })),
  }),
  disk: z.strictObject({
    free_floor_gb: count.default(5).meta(about("Room on the host that is never given to sprites or images.", { unit: "GiB" })),
    pool_size_gb: z
      .int()
      .min(1)
      .meta(
        about("Size of the pool file that is made where the host's file system cannot clone. Sparse; a larger value later grows it.", {
          unit: "GiB",
          automatic: "size of the file system of `home`",
        }),
      ),
    mirror: z
      .url()
      .default("http://deb.debian.org/debian")
      .meta(about("Debian mirror from which kernel, system image and base images are made.")),
    security_mirror: z.url().default("http://deb.debian.org/debian-security").meta(about("Mirror of Debian's security updates.")),
  }),
  checkpoint: z.strictObject({
    auto_keep: z
      .int()
      .min(1)
      .max(1000)
      .default(5)
      .meta(about("Automatic checkpoints kept of each sprite: the states before its last restores.")),
    checks_parallel: z.int().min(1).max(64).default(1).meta(about("Checkpoints that are checked in the background at once.")),
  }),
  network: z.strictObject({
    subnet: ipv4Network
      .default("10.118.0.0/16")
      .meta(about("Addresses used between the host and its VMs; must not occur in your network.")),
    dns: z.array(ipAddress).default([]).meta(about("Name servers of the sprites. Empty: the host's own.")),
    allowed_private: z
      .array(ipv4Network)
      .default([])
      .meta(about("Private networks that sprites may reach; all others are closed to them.")),
    spare_slots: count.max(256).default(2).meta(about("Network places kept ready for the next VMs.")),
    uid_base: z
      .int()
      .min(1000)
      .max(2_147_400_000)
      .default(1_900_000_000)
      .meta(about("First of the user ids under which VM processes run, one per VM.")),
  }),
  api: z.strictObject({
    body_bytes_max: z
      .int()
      .min(1024)
      .default(1_048_576)
      .meta(about("Largest JSON request body.", { unit: "bytes" })),
    domain: z
      .string()
      .min(1)
      .default("localhost")
      .meta(about("Domain below which sprite URLs are formed: `http://NAME-ORGANIZATION.DOMAIN:PORT`.")),
    control: z
      .enum(["on", "off"])
      .default("off")
      .meta(
        about(
          "Control connections (`controlMode` of the official JavaScript client). That client runs a command twice over them when it ends with another exit code than 0, so they are off.",
        ),
      ),
  }),
  jobs: z.strictObject({
    retention_hours: count
      .max(100_000)
      .default(720)
      .meta(about("How long an ended job is kept with its log. 0: as long as its sprite.", { unit: "hours" })),
    kept_per_sprite: z.int().min(1).max(100_000).default(200).meta(about("Most ended jobs kept of one sprite; the oldest go first.")),
    webhook_private: z
      .enum(["refuse", "allow"])
      .default("refuse")
      .meta(about("Whether webhooks may go to loopback, private and other addresses that are not public.")),
  }),
  exec: z.strictObject({
    log_bytes: z
      .int()
      .min(1_048_576)
      .default(67_108_864)
      .meta(about("Output that is kept of one session; beyond it the oldest is dropped, and readers are told.", { unit: "bytes" })),
    ended_sessions: count.default(100).meta(about("Ended sessions that stay readable, per sprite.")),
    ended_hours: count.default(168).meta(about("How long an ended session stays readable.", { unit: "hours" })),
    ended_log_bytes: count.default(268_435_456).meta(about("Output of ended sessions that is kept, per sprite.", { unit: "bytes" })),
  }),
  timeouts: z.strictObject({
    boot_ms: milliseconds
      .default(180_000)
      .meta(about("A kernel boot up to the agent's first word. Emulated CPUs need about ten times as long as KVM.", { unit: "ms" })),
    resume_ms: milliseconds.default(60_000).meta(about("A resume from a memory snapshot up to the agent's first answer.", { unit: "ms" })),
    inner_ms: milliseconds.default(60_000).meta(about("Mounting a sprite's disk and entering its Linux.", { unit: "ms" })),
    guest_call_ms: milliseconds.default(15_000).meta(about("One question to an agent that is up.", { unit: "ms" })),
    memory_wait_ms: milliseconds
      .default(20_000)
      .meta(about("Longest wait for memory on the host before a wake is refused.", { unit: "ms" })),
    stop_ms: milliseconds.default(20_000).meta(about("An orderly stop of a VM before it is ended by force.", { unit: "ms" })),
    shutdown_ms: milliseconds.default(10_000).meta(about("Requests in flight when the daemon stops.", { unit: "ms" })),
  }),
});

/** The settings as the file spells them. */
export type ConfigFile = z.infer<typeof configSchema>;

/** One leaf of the schema. */
export interface ConfigField {
  /** Path in the TOML file, `sprite.memory_mb`. */
  key: string;
  /** `SPRITED_SPRITE_MEMORY_MB`. */
  variable: string;
  meta: FieldMeta;
  /** How a value is written, for people: `number`, `text`, `list`, or the choices. */
  type: "number" | "text" | "list" | readonly string[];
  /** undefined when the host decides. */
  fixedDefault: unknown;
}

/** All settings in the order of the schema. */
export function configFields(): ConfigField[] {
  return fieldsOf(configSchema, []);
}

function fieldsOf(schema: z.ZodObject, at: readonly string[]): ConfigField[] {
  return Object.entries(schema.shape).flatMap(([name, child]) => {
    const path = [...at, name];
    if (child instanceof z.ZodObject) return fieldsOf(child, path);
    const leaf = child as z.ZodType;
    const inner = leaf instanceof z.ZodDefault ? (leaf.unwrap() as z.ZodType) : leaf;
    return [
      {
        key: path.join("."),
        variable: `SPRITED_${path.join("_").toUpperCase()}`,
        meta: leaf.meta() as unknown as FieldMeta,
        type: leafType(inner),
        fixedDefault: leaf instanceof z.ZodDefault ? leaf.parse(undefined) : undefined,
      },
    ];
  });
}

function leafType(schema: z.ZodType): ConfigField["type"] {
  if (schema instanceof z.ZodEnum) return schema.options.map(String);
  if (schema instanceof z.ZodArray) return "list";
  if (schema instanceof z.ZodNumber) return "number";
  return "text";
}

/** Splits `host:port` or `[v6]:port`; undefined when it is neither. */
export function parseListen(text: string): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]\s/]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port <= 65_535)) return undefined;
  if (match?.[1] !== undefined && isIP(host.split("%")[0] ?? "") !== 6) return undefined;
  return { host, port };
}

function isIpv4Network(text: string): boolean {
  const [address = "", bits = "", ...more] = text.split("/");
  return more.length === 0 && isIP(address) === 4 && /^\d{1,2}$/.test(bits) && Number(bits) <= 32;
}
