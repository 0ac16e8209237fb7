import { describe, expect, test } from "vitest";
import { readPrometheusText, valueOf } from "./prometheus-text.ts";

const family = (type: string, ...lines: string[]): string => `# HELP x_total what\n# TYPE x_total ${type}\n${lines.join("\n")}\n`;

describe("the reader of Prometheus' text", () => {
  test("reads names, labels with every escape, and values", () => {
    const read = readPrometheusText(family("counter", String.raw`x_total{a="q\"b\\n\n",b="2"} 1.5e+3`, "x_total 0"));
    expect(read.get("x_total")).toEqual({
      name: "x_total",
      type: "counter",
      help: "what",
      samples: [
        { name: "x_total", labels: { a: 'q"b\\n\n', b: "2" }, value: 1500 },
        { name: "x_total", labels: {}, value: 0 },
      ],
    });
    expect(valueOf(read, "x_total", { b: "2" })).toBe(1500);
    expect(() => valueOf(read, "x_total")).toThrow("several");
  });

  test.each([
    ["no type", "x_total 1\n"],
    ["no value", family("counter", "x_total")],
    ["a bare label", family("counter", "x_total{a=1} 1")],
    ["an unescaped quote", family("counter", 'x_total{a="a"b"} 1')],
    ["a comma too many", family("counter", 'x_total{a="a",} 1')],
    ["a label twice", family("counter", 'x_total{a="a",a="b"} 1')],
    ["a series twice", family("counter", 'x_total{a="a"} 1', 'x_total{a="a"} 2')],
    ["another family's sample", family("counter", "y_total 1")],
    ["a negative counter", family("counter", "x_total -1")],
    ["a family twice", family("counter", "x_total 1") + family("counter", "x_total 1")],
    ["no end", family("counter", "x_total 1").trimEnd()],
    [
      "buckets that fall",
      family("histogram", 'x_total_bucket{le="1"} 2', 'x_total_bucket{le="+Inf"} 1', "x_total_sum 1", "x_total_count 1"),
    ],
    ["a count that differs", family("histogram", 'x_total_bucket{le="+Inf"} 1', "x_total_sum 1", "x_total_count 2")],
    ["no last bucket", family("histogram", 'x_total_bucket{le="1"} 1', "x_total_sum 1", "x_total_count 1")],
  ])("refuses %s", (_what, text) => {
    expect(() => readPrometheusText(text)).toThrow();
  });
});
