/**
 * What `GET /metrics` tells (docs/spec/metrics.md). Features do not know of it: it listens to their
 * events and reads their levels when asked.
 */
import { Instruments } from "./instruments.ts";
import { poolMetrics, type PoolSource } from "./pool-metrics.ts";
import { processMetrics } from "./process-metrics.ts";
import { requestMetrics, type ServedRequest } from "./request-metrics.ts";
import { type JobSource, type SessionSource, spriteMetrics, type SpriteSource, workMetrics } from "./sprite-metrics.ts";

export interface MetricSources {
  sprites: SpriteSource;
  exec: SessionSource;
  jobs: JobSource;
  pools: PoolSource;
}

export class Metrics {
  /** Counts a request to the API. */
  readonly requestServed: (request: ServedRequest) => void;
  readonly #instruments = new Instruments();
  readonly #readLevels: readonly (() => void)[];
  readonly #readProcess: (program: { version: string }) => void;

  /** Counts from now on. */
  constructor({ sprites, exec, jobs, pools }: MetricSources) {
    this.#readProcess = processMetrics(this.#instruments);
    this.#readLevels = [
      spriteMetrics(this.#instruments, sprites),
      workMetrics(this.#instruments, { exec, jobs }),
      poolMetrics(this.#instruments, pools),
    ];
    this.requestServed = requestMetrics(this.#instruments);
  }

  get contentType(): string {
    return this.#instruments.contentType;
  }

  /** Everything in Prometheus' text format. */
  async text(program: { version: string }): Promise<string> {
    this.#readProcess(program);
    for (const read of this.#readLevels) read();
    return await this.#instruments.text();
  }
}
