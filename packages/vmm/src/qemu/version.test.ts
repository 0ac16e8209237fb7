import { describe, expect, test } from "vitest";
import { buildName, cpuDigest, requireVersion } from "./version.ts";

describe("QEMU's version", () => {
  test("is read with its package", () => {
    const output = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c) 2003-2025 Fabrice Bellard\n";
    expect(requireVersion(output)).toBe("10.0.2 (Debian 1:10.0.2+ds-2)");
    expect(requireVersion("8.2.0")).toBe("8.2.0");
  });

  test.each(["QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg)", "QEMU emulator version 8.1.5"])("%s is too old", (output) => {
    expect(() => requireVersion(output)).toThrow(expect.objectContaining({ code: "vmm_unavailable" }));
    expect(() => requireVersion(output)).toThrow("install qemu-system-x86");
  });

  test.each(["", "bash: command not found", "version ten"])("%j is not QEMU's", (output) => {
    expect(() => requireVersion(output)).toThrow(expect.objectContaining({ code: "vmm_unavailable" }));
  });

  test("names a build together with what else a snapshot depends on", async () => {
    expect(await buildName("10.0.2", "tcg")).toMatch(/^qemu 10\.0\.2, microvm \d+, tcg$/);
    expect(await buildName("10.0.2", "kvm")).toMatch(/^qemu 10\.0\.2, microvm \d+, kvm, cpu [0-9a-f]{12}$/);
  });

  test("the host's CPU is its model and features, not its present speed", () => {
    const cpu = (mhz: string, flags: string): string =>
      `processor\t: 0\nmodel name\t: A\nstepping\t: 1\ncpu MHz\t\t: ${mhz}\nflags\t\t: ${flags}\n`;
    expect(cpuDigest(cpu("2000", "fpu sse"))).toBe(cpuDigest(cpu("3000", "fpu sse")));
    expect(cpuDigest(cpu("2000", "fpu sse"))).not.toBe(cpuDigest(cpu("2000", "fpu sse avx")));
  });
});
