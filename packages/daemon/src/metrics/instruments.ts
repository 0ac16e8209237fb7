/**
 * The numbers of one daemon in Prometheus' text format: counters, gauges and histograms over a
 * registry of their own, so that daemons of one process share nothing (METR-4).
 */
import type { Counter, Gauge, Histogram } from "prom-client";
import CounterPart from "prom-client/lib/counter.js";
import GaugePart from "prom-client/lib/gauge.js";
import HistogramPart from "prom-client/lib/histogram.js";
import RegistryPart from "prom-client/lib/registry.js";

export type { Counter, Gauge, Histogram } from "prom-client";

/** Upper bounds of durations, s: from a claim to a boot under emulation. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

export class Instruments {
  readonly #registry = new RegistryPart();

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Everything as it is now. */
  async text(): Promise<string> {
    return await this.#registry.metrics();
  }

  counter<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> {
    return new CounterPart({ name, help, labelNames, registers: [this.#registry] }) as Counter<Label>;
  }

  gauge<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Gauge<Label> {
    return new GaugePart({ name, help, labelNames, registers: [this.#registry] }) as Gauge<Label>;
  }

  /** Of durations in seconds. */
  histogram<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Histogram<Label> {
    return new HistogramPart({ name, help, labelNames, buckets: SECONDS, registers: [this.#registry] }) as Histogram<Label>;
  }
}
