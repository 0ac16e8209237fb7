/**
 * A strict reader of Prometheus' text format 0.0.4, for tests: what a scraper might forgive throws.
 */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export interface MetricFamily {
  name: string;
  type: string;
  help: string;
  samples: Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\+Inf|-Inf|NaN|-?[0-9.]+(?:e[+-]?[0-9]+)?)$/;
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,(?=.)|$)/;

/** Every family by its name. Throws on anything that is not of the format, twice there, or a histogram whose parts do not fit together. */
export function readPrometheusText(text: string): Map<string, MetricFamily> {
  const families = new Map<string, MetricFamily>();
  let current: MetricFamily | undefined;
  let help: { name: string; text: string } | undefined;
  if (!text.endsWith("\n")) throw new Error("the text does not end with a line feed");
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [, kind, name = "", rest = ""] = /^# (HELP|TYPE) ([^ ]+) (.*)$/.exec(line) ?? [];
    if (kind === "HELP") {
      if (!NAME.test(name) || families.has(name)) throw new Error(`a name that is bad or there twice: ${line}`);
      help = { name, text: rest };
    } else if (kind === "TYPE") {
      if (help?.name !== name) throw new Error(`a type without its help: ${line}`);
      if (!["counter", "gauge", "histogram"].includes(rest)) throw new Error(`a type that is not used here: ${line}`);
      current = { name, type: rest, help: help.text, samples: [] };
      families.set(name, current);
    } else {
      const sample = readSample(line);
      if (!current || !belongs(sample.name, current)) throw new Error(`a sample outside of its family: ${line}`);
      current.samples.push(sample);
    }
  }
  for (const family of families.values()) check(family);
  return families;
}

function readSample(line: string): Sample {
  const [, name = "", labelText = "", valueText = ""] = SAMPLE.exec(line) ?? [];
  if (name === "") throw new Error(`not a sample: ${line}`);
  const labels: Record<string, string> = {};
  for (let left = labelText; left !== "";) {
    const [whole = "", label = "", value = ""] = LABEL.exec(left) ?? [];
    if (whole === "" || label in labels) throw new Error(`labels that are bad or there twice: ${line}`);
    labels[label] = value.replace(/\\(.)/g, (_, escaped: string) => (escaped === "n" ? "\n" : escaped));
    left = left.slice(whole.length);
  }
  return { name, labels, value: valueText.endsWith("Inf") ? Number(valueText.replace("Inf", "Infinity")) : Number(valueText) };
}

function belongs(sample: string, { name, type }: MetricFamily): boolean {
  return type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`].includes(sample) : sample === name;
}

function check({ name, type, samples }: MetricFamily): void {
  const keys = samples.map((sample) => `${sample.name} ${keyOf(sample.labels)}`);
  if (new Set(keys).size !== keys.length) throw new Error(`${name}: a series is there twice`);
  if (type === "counter" && samples.some(({ value }) => !(value >= 0))) throw new Error(`${name}: a counter below 0`);
  if (type === "counter" && !name.endsWith("_total")) throw new Error(`${name}: a counter whose name does not end with _total`);
  if (type === "histogram") checkHistogram(name, samples);
}

function keyOf(labels: Record<string, string>): string {
  return Object.entries(labels)
    .map(([label, value]) => JSON.stringify([label, value]))
    .sort((one, other) => (one < other ? -1 : 1))
    .join();
}

function checkHistogram(name: string, samples: readonly Sample[]): void {
  const series = new Map<string, { buckets: { le: number; value: number }[]; count: number | undefined; sum: number | undefined }>();
  for (const sample of samples) {
    const { le, ...labels } = sample.labels;
    const key = keyOf(labels);
    const one = series.get(key) ?? { buckets: [], count: undefined, sum: undefined };
    series.set(key, one);
    if (sample.name.endsWith("_bucket")) one.buckets.push({ le: Number(le?.replace("+Inf", "Infinity")), value: sample.value });
    else if (sample.name.endsWith("_count")) one.count = sample.value;
    else one.sum = sample.value;
  }
  for (const [key, { buckets, count, sum }] of series) {
    const isRising = buckets.every(
      ({ le, value }, at) => at === 0 || (le > (buckets[at - 1]?.le ?? NaN) && value >= (buckets[at - 1]?.value ?? NaN)),
    );
    const last = buckets.at(-1);
    if (!isRising || last?.le !== Infinity || last.value !== count || sum === undefined)
      throw new Error(`${name}: buckets, count and sum do not fit: ${key}`);
  }
}

/** Value of the series of `name` whose labels are all of `labels`; undefined when there is none. Throws when several fit. */
export function valueOf(
  families: ReadonlyMap<string, MetricFamily>,
  name: string,
  labels: Record<string, string> = {},
): number | undefined {
  const family = families.get(name) ?? families.get(name.replace(/_(count|sum|bucket)$/, ""));
  const found = (family?.samples ?? []).filter(
    (sample) => sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
  if (found.length > 1) throw new Error(`${name}: several series have these labels`);
  return found[0]?.value;
}
