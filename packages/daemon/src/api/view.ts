/** From features' values to the wire: the only place where fields change their spelling. */
import type {
  OrganizationCounters,
  OrganizationObject,
  SessionDetails,
  SessionObject,
  SpriteObject,
  TokenObject,
} from "@sprited/protocol/api";
import { exitByte } from "@sprited/protocol/stream";
import type { ExecSession } from "../exec/exec.ts";
import type { SpriteView, StatusCounts } from "../sprite/sprite.ts";
import type { OrganizationRecord, TokenRecord } from "../store/index.ts";
import type { ApiContext } from "./handler.ts";

export function timeView(ms: number): string {
  return new Date(ms).toISOString();
}

export function spriteView(context: ApiContext, sprite: SpriteView): SpriteObject {
  return {
    id: sprite.id,
    name: sprite.name,
    organization: sprite.organizationSlug,
    org_slug: sprite.organizationSlug,
    status: sprite.status,
    config: {
      ram_mb: sprite.config.memoryMib,
      cpus: sprite.config.cpus,
      storage_gb: sprite.config.storageGb,
      ...(sprite.idleSeconds === undefined ? {} : { idle_seconds: sprite.idleSeconds }),
    },
    environment: sprite.environment,
    labels: sprite.labels,
    url: context.spriteUrl(sprite.name, sprite.organizationSlug),
    url_settings: {
      auth: sprite.urlSettings.auth,
      ...(sprite.urlSettings.privateAccess === undefined ? {} : { private_access: sprite.urlSettings.privateAccess }),
    },
    image: sprite.imageName,
    environment_version: sprite.imageDigest,
    version: context.version,
    created_at: timeView(sprite.createdAtMs),
    updated_at: timeView(sprite.updatedAtMs),
    last_running_at: sprite.lastRunningAtMs === undefined ? null : timeView(sprite.lastRunningAtMs),
    last_warming_at: null,
    ...(sprite.failure === undefined ? {} : { failure: sprite.failure }),
    ...(sprite.memoryLost === undefined ? {} : { memory_lost: sprite.memoryLost }),
  };
}

/** An entry of a `bulk_load` list. */
export function spriteEntryView(context: ApiContext, sprite: SpriteView) {
  return {
    id: sprite.id,
    name: sprite.name,
    organization: sprite.organizationSlug,
    org_slug: sprite.organizationSlug,
    status: sprite.status,
    url: context.spriteUrl(sprite.name, sprite.organizationSlug),
    labels: sprite.labels,
    created_at: timeView(sprite.createdAtMs),
    updated_at: timeView(sprite.updatedAtMs),
  };
}

/** The counters that clients read; 0 as a limit means that there is none. */
export function countersView(slug: string, counts: StatusCounts): OrganizationCounters {
  return { name: slug, running: counts.running, warm: counts.warm, cold: counts.cold, running_limit: 0, warm_limit: 0 };
}

export function organizationView(organization: OrganizationRecord): OrganizationObject {
  return { id: organization.id, slug: organization.slug, name: organization.name, created_at: timeView(organization.createdAtMs) };
}

export function tokenView(token: TokenRecord, organizationSlug: string): TokenObject {
  return {
    id: token.id,
    organization: organizationSlug,
    description: token.description,
    name_prefix: token.namePrefix ?? null,
    admin: token.admin,
    created_at: timeView(token.createdAtMs),
    last_used_at: token.lastUsedAtMs === undefined ? null : timeView(token.lastUsedAtMs),
    revoked_at: token.revokedAtMs === undefined ? null : timeView(token.revokedAtMs),
  };
}

function sessionView(session: ExecSession, nowMs: number): SessionObject {
  const { stdout, stderr } = session.outputOffsets;
  const ageSeconds = Math.max(1, (nowMs - session.createdAtMs) / 1000);
  return {
    id: session.id,
    command: session.command,
    workdir: session.workdir,
    created: timeView(session.createdAtMs),
    bytes_per_second: Math.round((stdout + stderr) / ageSeconds),
    is_active: session.clients > 0,
    last_activity: timeView(session.lastOutputAtMs),
    tty: session.tty,
  };
}

/** A session with what is known after its end. */
export function sessionDetailsView(session: ExecSession, nowMs: number): SessionDetails {
  const { end, endedAtMs } = session;
  const { stdout, stderr } = session.outputOffsets;
  return {
    ...sessionView(session, nowMs),
    stdout_bytes: stdout,
    stderr_bytes: stderr,
    log_start: session.kept.start,
    ...(end && endedAtMs !== undefined ? { ended_at: timeView(endedAtMs) } : {}),
    ...(end?.kind === "exit" ? { exit_code: exitByte(end.exit) } : {}),
    ...(end?.kind === "lost" ? { lost: { code: end.code, reason: end.reason } } : {}),
  };
}
