/** An API server on a free loopback port with features in memory, for tests. */
import { Listeners, type LogFields, type Logger, systemClock } from "@sprited/base";
import { Organizations, Quotas } from "../../organization/index.ts";
import { Jobs, type JobSettings } from "../../job/index.ts";
import { Metrics } from "../../metrics/index.ts";
import { jobRecords, openDatabase } from "../../store/index.ts";
import type { ApiFeatures } from "../handler.ts";
import { type ApiServer, type ApiServerOptions, startApiServer } from "../index.ts";
import { MemoryExec } from "./memory-exec.ts";
import { MemorySprites } from "./memory-sprites.ts";
import { unusedFeature } from "./unused-feature.ts";

export interface Testbed extends AsyncDisposable {
  server: ApiServer;
  /** What the server was given. */
  features: ApiFeatures;
  sprites: MemorySprites;
  exec: MemoryExec;
  organizations: Organizations;
  /** Everything that was logged. */
  lines: LogFields[];
  /** Token of organization `acme`. */
  token: string;
  adminToken: string;
  /** Calls the API as `acme`, or with the given token; `null`: without one. */
  call(
    method: string,
    path: string,
    options?: { body?: unknown; token?: string | null; headers?: Record<string, string> },
  ): Promise<Response>;
}

const JOB_SETTINGS: JobSettings = { retentionMs: undefined, keptPerSprite: 200, webhookPrivate: false };

type TestbedOptions = Partial<Pick<ApiServerOptions, "timings" | "state" | "bodyBytesMax" | "control">> & { jobs?: Partial<JobSettings> };

export async function openTestbed(options: TestbedOptions = {}): Promise<Testbed> {
  const database = openDatabase(":memory:");
  const lines: LogFields[] = [];
  const logger = recorder(lines);
  const organizations = new Organizations({ database, clock: systemClock, logger });
  const acme = organizations.create("acme", "Acme");
  const token = organizations.createToken(acme, { description: "test", namePrefix: undefined, admin: false }).text;
  const adminToken = organizations.createToken(acme, { description: "admin", namePrefix: undefined, admin: true }).text;
  const sprites = new MemorySprites((id) => organizations.slugOf(id));
  const exec = new MemoryExec(sprites);
  const records = jobRecords(database);
  const jobs = new Jobs({ records, sprites, exec, settings: { ...JOB_SETTINGS, ...options.jobs }, nowMs: Date.now, logger });
  const features: ApiFeatures = {
    sprites,
    exec,
    jobs,
    organizations,
    quotas: new Quotas(database),
    checkpoints: unusedFeature("checkpoints"),
    garbage: unusedFeature("garbage"),
    metrics: new Metrics({
      sprites: { states: () => [], machineEvents: new Listeners() },
      exec: { open: () => [] },
      jobs,
      pools: { all: () => [], events: new Listeners() },
    }),
    templates: unusedFeature("templates"),
    pools: unusedFeature("pools"),
    forks: unusedFeature("forks"),
    archives: unusedFeature("archives"),
    checkpointFiles: unusedFeature("checkpointFiles"),
    proxies: unusedFeature("proxies"),
    ports: { watch: () => () => {} },
    files: unusedFeature("files"),
  };
  const server = await startApiServer({
    listen: { host: "127.0.0.1", port: 0 },
    features,
    logger,
    version: "0.0.0-test",
    spriteDomain: "localhost",
    ...options,
  });
  return {
    server,
    features,
    sprites,
    exec,
    organizations,
    lines,
    token,
    adminToken,
    async call(method, path, { body, token: given, headers } = {}) {
      const authorization = given === null ? {} : { authorization: `Bearer ${given ?? token}` };
      return await fetch(server.url + path, {
        method,
        headers: { ...authorization, ...headers },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      });
    },
    async [Symbol.asyncDispose]() {
      await server.close({ drainMs: 200 });
      await jobs.close();
      organizations.close();
      database.close();
    },
  };
}

function recorder(lines: LogFields[]): Logger {
  const put = (fields: LogFields): void => void lines.push(fields);
  const logger: Logger = { debug: put, info: put, warn: put, error: put, child: () => logger };
  return logger;
}
