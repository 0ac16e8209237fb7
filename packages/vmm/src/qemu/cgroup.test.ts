import fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { createCgroup, findHierarchy, planCgroup, removeCgroup, vmLimits } from "./cgroup.ts";

const LIMITS = { memoryBytes: 1024, pids: 132, cpuWeight: 200 };
const V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const V1 = [
  "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
  "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
  "33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids",
  "34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
].join("\n");

describe("the hierarchy", () => {
  test("is version 2 where it offers every controller", () => {
    expect(findHierarchy({ mountinfo: V2, selfCgroup: "0::/user.slice\n", controllers: "cpuset cpu io memory pids\n" })).toEqual({
      kind: "v2",
      mount: "/sys/fs/cgroup",
    });
  });

  test("is version 1, below the daemon's own groups, where version 2 is empty", () => {
    const selfCgroup = "5:pids:/\n4:memory:/box/inner\n1:cpu,cpuacct:/box\n0::/\n";
    expect(findHierarchy({ mountinfo: V1, selfCgroup, controllers: "" })).toEqual({
      kind: "v1",
      directories: { memory: "/sys/fs/cgroup/memory/box/inner", pids: "/sys/fs/cgroup/pids", cpu: "/sys/fs/cgroup/cpu,cpuacct/box" },
    });
  });

  test("in a container begins where its mount begins, never above", () => {
    const mountinfo = "32 30 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
    const at = (group: string): unknown => findHierarchy({ mountinfo, selfCgroup: `4:memory:${group}`, controllers: "" });
    expect(at("/docker/abc/in")).toEqual({ kind: "v1", directories: { memory: "/sys/fs/cgroup/memory/in" } });
    expect(at("/docker/abc")).toEqual({ kind: "v1", directories: { memory: "/sys/fs/cgroup/memory" } });
    expect(at("/elsewhere")).toEqual({ kind: "v1", directories: { memory: "/sys/fs/cgroup/memory" } });
  });

  test("may be none", () => {
    expect(findHierarchy({ mountinfo: "22 1 0:20 / / rw - ext4 /dev/vda rw\n", selfCgroup: "", controllers: "" }).kind).toBe("none");
    expect(findHierarchy({ mountinfo: V2, selfCgroup: "0::/\n", controllers: "memory\n" }).kind).toBe("none");
  });
});

describe("the groups of a VM", () => {
  test("version 2: one, with every limit", () => {
    expect(planCgroup({ kind: "v2", mount: "/sys/fs/cgroup" }, "abc", LIMITS)).toEqual({
      groups: [
        {
          path: "/sys/fs/cgroup/sprited/abc",
          limits: [
            { file: "memory.max", value: "1024" },
            { file: "memory.oom.group", value: "1" },
            { file: "pids.max", value: "132" },
            { file: "cpu.weight", value: "200" },
          ],
        },
      ],
    });
  });

  test("version 1: one per controller", () => {
    const plan = planCgroup({ kind: "v1", directories: { memory: "/m", pids: "/p", cpu: "/c" } }, "abc", LIMITS);
    expect(plan.groups).toEqual([
      { path: "/m/sprited-abc", limits: [{ file: "memory.limit_in_bytes", value: "1024" }] },
      { path: "/p/sprited-abc", limits: [{ file: "pids.max", value: "132" }] },
      { path: "/c/sprited-abc", limits: [{ file: "cpu.shares", value: "2048" }] },
    ]);
  });

  test("version 1 with controllers mounted together: one for them", () => {
    const plan = planCgroup({ kind: "v1", directories: { memory: "/all", pids: "/all" } }, "abc", LIMITS);
    expect(plan.groups.map((group) => [group.path, group.limits.length])).toEqual([["/all/sprited-abc", 2]]);
  });

  test("none: nothing to make", () => {
    expect(planCgroup({ kind: "none", reason: "" }, "abc", LIMITS)).toEqual({ groups: [] });
  });

  test("leave room for the VMM beside the guest's memory and stay within what the kernel takes", () => {
    const limits = vmLimits({ cpus: 64, memoryMib: 512 }, 64);
    expect(limits.memoryBytes).toBeGreaterThan((512 + 64) * 1024 * 1024);
    expect(vmLimits({ cpus: 2, memoryMib: 512 }, 64).cpuWeight).toBe(200);
    expect(vmLimits({ cpus: 1000, memoryMib: 512 }, 64).cpuWeight).toBe(10_000);
  });

  test("are removed again when a limit cannot be set; removing what is gone is fine", async () => {
    const root = await fs.mkdtemp(path.join(tmpdir(), "sprited-cgroup-"));
    const group = path.join(root, "one");
    await expect(createCgroup({ groups: [{ path: group, limits: [{ file: "no/such", value: "1" }] }] })).rejects.toThrow("ENOENT");
    await expect(fs.access(group)).rejects.toThrow("ENOENT");
    await removeCgroup([group]);
    await fs.rm(root, { recursive: true });
  });
});
