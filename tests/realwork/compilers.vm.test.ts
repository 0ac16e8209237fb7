/** Small programs in Rust and Go, built without a network; the same sources give the same binaries. */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DEVELOPER_IMAGE, developerSkipReason, WAYS, Workshop } from "./workshop.ts";

vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 900_000 });

const SOURCES: Record<string, string> = {
  "crate/Cargo.toml": `[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nlower = { path = "lower" }\n`,
  "crate/src/main.rs": `fn main() { let total: u64 = (1..=10).map(lower::square).sum(); println!("rust {total}"); }\n`,
  "crate/lower/Cargo.toml": `[package]\nname = "lower"\nversion = "0.1.0"\nedition = "2021"\n`,
  "crate/lower/src/lib.rs": `pub fn square(n: u64) -> u64 { n * n }\n#[cfg(test)]\nmod tests { #[test]\nfn squares() { assert_eq!(super::square(3), 9); } }\n`,
  "module/go.mod": "module example.com/app\n\ngo 1.21\n",
  "module/main.go": `package main\n\nimport "example.com/app/lower"\n\nfunc main() { println(lower.Text()) }\n`,
  "module/lower/lower.go": `package lower\n\nfunc Text() string { return "go 42" }\n`,
};

describe.skipIf(developerSkipReason() !== undefined)("compilers", () => {
  let shop: Workshop;
  const builds = new Map<string, string>();

  beforeAll(async () => {
    const local = await fs.mkdtemp(path.join(os.tmpdir(), "realwork-sources-"));
    try {
      for (const [name, text] of Object.entries(SOURCES)) {
        await fs.mkdir(path.dirname(path.join(local, name)), { recursive: true });
        await fs.writeFile(path.join(local, name), text);
      }
      shop = await Workshop.open(DEVELOPER_IMAGE);
      await shop.push("cut", local, "/home/sprite");
    } finally {
      await fs.rm(local, { recursive: true, force: true });
    }
  });
  afterAll(() => shop?.[Symbol.asyncDispose]());

  test.each(WAYS)("cargo build, %s", async (way) => {
    const script = "cd crate && rm -rf target && cargo build --offline && ./target/debug/app && sha256sum target/debug/app";
    const out = await shop.work(way, script);
    expect(out).toMatch(/^rust 385\n[0-9a-f]{64} /);
    expect(out).toBe(builds.get("rust") ?? out);
    builds.set("rust", out);
  });

  // The first build compiles Go's own runtime, which takes minutes under emulation: so it imports no more than that.
  test.each(WAYS)("go build, %s", async (way) => {
    const out = await shop.work(
      way,
      "cd module && GOFLAGS=-mod=mod GOPROXY=off go build -trimpath -o app . && ./app 2>&1 && sha256sum app",
    );
    expect(out).toMatch(/^go 42\n[0-9a-f]{64} /);
    expect(out).toBe(builds.get("go") ?? out);
    builds.set("go", out);
  });

  test("cargo test as a job", async () => {
    const { code, out } = await shop.job("cut", "cd crate/lower && cargo test --offline --quiet --lib");
    expect(code, out).toBe(0);
    expect(out).toContain("1 passed");
  });
});
