/**
 * The inner environment of a real VM under a user who is root in it and tries: whatever they do,
 * the agent still answers, or the next request finds a repaired environment, or a cold start does.
 */
import { describe, afterAll, beforeAll, expect, test, vi } from "vitest";
import { nextId, type Ran, readAll, runCommand } from "../kit/bare-guest.ts";
import { GuestVm } from "../kit/guest-vm.ts";
import { vmSkipReason } from "../kit/preflight.ts";

vi.setConfig({ testTimeout: 180_000, hookTimeout: 400_000 });

describe.skipIf(vmSkipReason() !== undefined)("inner environment", () => {
  let vm: GuestVm;
  beforeAll(async () => {
    vm = await GuestVm.open();
    await vm.start();
  });
  afterAll(async () => {
    await vm?.[Symbol.asyncDispose]();
  });

  const sh = (script: string): Promise<Ran> => runCommand(vm.link, ["sh", "-c", script]);
  const asRoot = (script: string): Promise<Ran> => runCommand(vm.link, ["sudo", "sh", "-c", script]);
  /** Begins something that may never answer. */
  const leave = async (script: string): Promise<void> => {
    const stream = await vm.link.startSession(nextId(), {
      argv: ["sudo", "sh", "-c", script],
      env: {},
      dir: null,
      tty: null,
      stdin: false,
    });
    readAll(stream).catch(() => {});
  };
  const answers = async (): Promise<void> => {
    expect((await vm.link.status({ timeoutMs: 20_000 })).time_ms).toBeGreaterThan(0);
    const ran = await sh("echo here");
    expect([ran.failed, ran.stdout.toString(), ran.exit]).toEqual([undefined, "here\n", { code: 0, signal: null }]);
  };

  test("[BOOT-4] [BOOT-5] commands run as the sprite's user in their own Linux, with its identity and the right time", async () => {
    const ran = await sh("id -un; pwd; hostname; cat /etc/hostname; echo $HOME $SPRITE_VARIABLE; cat /proc/1/comm; date +%s");
    const lines = ran.stdout.toString().trim().split("\n");
    expect(lines.slice(0, 6)).toEqual(["sprite", "/home/sprite", "guest-vm", "guest-vm", "/home/sprite from the sprite", "catatonit"]);
    expect(Math.abs(Number(lines[6]) * 1000 - Date.now())).toBeLessThan(3000);
    expect((await asRoot("id -u; cat /etc/machine-id")).stdout.toString()).toMatch(/^0\n[0-9a-f]{32}\n$/);
  });

  test("[LINK-5] soon after the link is open the clock is right", async () => {
    const offsetMs = async (): Promise<number> => {
      const sentMs = Date.now();
      const { time_ms } = await vm.link.status();
      return Math.max(sentMs - time_ms, time_ms - Date.now(), 0);
    };
    await expect.poll(offsetMs, { timeout: 10_000 }).toBeLessThan(100);
  });

  test("a terminal is found by its name", async () => {
    const ran = await runCommand(vm.link, ["sh", "-c", "tty; stty size"], { tty: { cols: 90, rows: 33 } });
    expect(ran.stdout.toString()).toMatch(/^\/dev\/pts\/[0-9]+\r\n33 90\r\n$/);
  });

  test("root has room for real work: mounts, namespaces, limits, network, packages", async () => {
    const work = [
      "mkdir -p /mnt/a && mount -t tmpfs t /mnt/a && echo x > /mnt/a/x && umount /mnt/a",
      "mkdir -p /tmp/l /tmp/u /tmp/w /tmp/m && mount -t overlay o -o lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w /tmp/m 2>/dev/null; umount /tmp/m 2>/dev/null; true",
      "unshare -m -p -n -u -i -f --mount-proc sh -c 'ip link set lo up; [ $$ = 1 ]'",
      "mkdir /sys/fs/cgroup/mine && echo 50000000 > /sys/fs/cgroup/mine/memory.max && echo $$ > /sys/fs/cgroup/mine/cgroup.procs && echo $$ > /sys/fs/cgroup/init/cgroup.procs && rmdir /sys/fs/cgroup/mine",
      "ip link add v0 type veth peer name v1 && ip link del v0",
      "sysctl -q -w net.ipv4.ip_forward=1 || echo 1 > /proc/sys/net/ipv4/ip_forward",
      "truncate -s 10M /tmp/disk && losetup /dev/loop0 /tmp/disk && /.sprite/bin/busybox mke2fs /dev/loop0 >/dev/null && mount /dev/loop0 /mnt/a && umount /mnt/a && losetup -d /dev/loop0",
      "chroot / true",
      "mknod /tmp/null c 1 3 && echo x > /tmp/null",
    ];
    for (const script of work) {
      const ran = await asRoot(`set -e; ${script}`);
      expect([script, ran.exit, ran.stderr.toString()]).toEqual([script, { code: 0, signal: null }, expect.any(String)]);
    }
  });

  test("nothing of the agent can be seen: no process, no socket, no file, no address", async () => {
    const seen = await asRoot(
      "ps -e -o comm=; ss -tlnH 2>/dev/null; ls /usr/lib/sprited /run/sprited 2>&1; cat /proc/*/mounts | grep -c erofs; ip -o addr; ls -l /dev/vd* /dev/vport* 2>&1",
    );
    const text = seen.stdout.toString();
    expect(text).not.toMatch(/^node$/m);
    expect(text).not.toContain("7781");
    expect(text).not.toContain("192.168.127");
    expect(text).not.toMatch(/agent\.mjs/);
    expect(text).toMatch(/No such file.*vport|vport.*No such file/s);
    const reach = await asRoot(
      "timeout 3 sh -c 'exec 3<>/dev/tcp/192.168.127.2/7781' 2>&1; timeout 3 bash -c 'exec 3<>/dev/tcp/192.168.127.2/7781' 2>/dev/null && echo reached",
    );
    expect(reach.stdout.toString()).not.toContain("reached");
  });

  test("ordinary doors to the VM's root are shut", async () => {
    const doors = await asRoot(
      [
        "echo b > /proc/sysrq-trigger",
        "echo '|/bin/sh' > /proc/sys/kernel/core_pattern",
        "echo /tmp/x > /proc/sys/kernel/modprobe",
        "echo 1000 > /proc/sys/kernel/pid_max",
        "echo 1 > /proc/sys/kernel/sysrq",
        "echo 0 > /sys/bus/cpu/drivers_autoprobe",
        "insmod /nonexistent.ko",
      ]
        .map((door) => `(${door}) 2>/dev/null && echo "open: ${door.replaceAll("'", "")}"`)
        .join("; "),
    );
    expect(doors.stdout.toString()).toBe("");
    await answers();
  });

  test("kill everything", async () => {
    await leave("kill -9 -1");
    await answers();
    await leave("kill -TERM -1; kill -INT 1; kill -HUP 1");
    await answers();
  });

  test("unmount everything: the tool box comes back with the next command", async () => {
    await leave("umount -l /.sprite; umount -a -f -l; umount -l /proc /sys /dev /run");
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await answers();
    await repair();
    expect((await sh("ls /proc/self/fd | wc -l; test -c /dev/null; echo $?")).stdout.toString()).toMatch(/\n0\n$/);
  });

  test("overwrite the tool box and what leads to it", async () => {
    await asRoot(
      "umount -l /.sprite; rmdir /.sprite; ln -s /nowhere /.sprite; rm -f /.sprite/bin/busybox; echo x > /etc/passwd; rm /etc/group; mkfifo /etc/group",
    );
    expect((await runCommand(vm.link, ["/.sprite/bin/busybox", "echo", "on"], { dir: "/" })).stdout.toString()).toBe("on\n");
    await runCommand(vm.link, ["/.sprite/bin/busybox", "sh", "-c", "rm -f /etc/group /etc/passwd"], { dir: "/" });
    await vm.cut();
    await vm.restoreDisk();
    await vm.start();
    await answers();
  });

  test("fork bomb: the agent answers, and a command can still be started to end it", async () => {
    await leave("f() { f | f & }; f");
    await new Promise((resolve) => setTimeout(resolve, 4000));
    expect((await vm.link.status({ timeoutMs: 60_000 })).inner).toBe("running");
    const killer = await vm.link.startSession(
      nextId(),
      { argv: ["/.sprite/bin/busybox", "echo", "started"], env: {}, dir: "/", tty: null, stdin: false },
      { timeoutMs: 60_000 },
    );
    expect((await readAll(killer)).stdout.toString()).toBe("started\n");
    await repair();
    await answers();
  });

  test("all memory, of programs and of files in memory", async () => {
    const hog = await asRoot("head -c 2000000000 /dev/zero | tail -c 2000000000 | wc -c; echo over");
    expect(hog.exit).toBeDefined();
    await answers();
    await leave("mount -o remount,size=4g /dev/shm; head -c 3000000000 /dev/zero > /dev/shm/fill");
    await new Promise((resolve) => setTimeout(resolve, 8000));
    await vm.link.status({ timeoutMs: 60_000 });
    await repair();
    await answers();
  });

  test("a full disk", async () => {
    const full = await asRoot("dd if=/dev/zero of=/fill bs=1M 2>/dev/null; df -P / | tail -1; ls -l /fill | wc -l");
    expect(full.stdout.toString()).toContain("100%");
    await answers();
    expect((await asRoot("rm /fill; df -P / | tail -1")).stdout.toString()).not.toContain("100%");
  });

  test.each([
    ["reboot", "reboot -f || echo b > /proc/sysrq-trigger || kill -9 1"],
    ["poweroff", "poweroff -f || halt -f"],
    [
      "the init's own end",
      "python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)' 2>/dev/null || busybox poweroff -f 2>/dev/null || /.sprite/bin/busybox poweroff -f",
    ],
  ])("[SESS-9] %s ends the sessions, the next request begins anew", async (_what, script) => {
    await asRoot("echo kept > /home/sprite/kept; sync");
    const before = (await vm.link.status()).inner_starts;
    const long = await vm.link.startSession(nextId(), { argv: ["sleep", "600"], env: {}, dir: null, tty: null, stdin: false });
    const ended = readAll(long);
    await leave(`${script}; /.sprite/bin/busybox reboot -f`);
    expect((await ended).exit).toEqual({ code: null, signal: "KILL" });
    await answers();
    expect((await vm.link.status()).inner_starts).toBe(before + 1);
    expect((await sh("cat kept; ip -o -4 addr show eth0 | wc -l; cat /proc/uptime | wc -l")).stdout.toString()).toBe("kept\n1\n1\n");
  });

  test("[SESS-9] restart after restart leaves nothing behind", async () => {
    const before = (await vm.link.status()).inner_starts;
    for (let round = 0; round < 5; round += 1) {
      await leave("/.sprite/bin/busybox reboot -f");
      await expect.poll(async () => (await vm.link.status()).inner, { timeout: 20_000 }).not.toBe("running");
      await answers();
    }
    expect((await vm.link.status()).inner_starts).toBe(before + 5);
    expect((await asRoot("wc -l < /proc/mounts; ls -d /sys/fs/cgroup/inner-* 2>/dev/null | wc -l")).stdout.toString()).toMatch(
      /^[0-9]{2}\n0\n$/,
    );
  });

  test("everything deleted: the agent answers, and says why nothing can run", async () => {
    await vm.link.sync();
    await leave("rm -rf --no-preserve-root /usr /bin /lib /lib64 /etc /sbin /var /home /opt 2>/dev/null");
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    expect((await vm.link.status()).inner).toBe("running");
    const ran = await runCommand(vm.link, ["/.sprite/bin/busybox", "echo", "still"], { dir: "/" });
    expect([ran.stdout.toString(), ran.exit?.code]).toEqual(["still\n", 0]);
    const gone = await runCommand(vm.link, ["ls"], { dir: "/" });
    expect([gone.exit?.code, gone.stderr.toString()]).toEqual([127, expect.stringMatching(/^.*ls.*\n$/)]);
  });

  test("[BOOT-5] a cold start after a power cut mounts the disk again; a stop leaves it clean", async () => {
    await vm.cut();
    await vm.start();
    const ran = await runCommand(vm.link, ["/.sprite/bin/busybox", "ls", "/"], { dir: "/" });
    expect(ran.exit?.code).toBe(0);
    await vm.link.stop(500, { timeoutMs: 60_000 });
    await expect(runCommand(vm.link, ["true"])).resolves.toMatchObject({ failed: { code: "inner_failed" } });
  });

  /** What a restart of the sprite does. */
  async function repair(): Promise<void> {
    await vm.cut();
    await vm.start();
  }
});
