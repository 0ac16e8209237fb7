/**
 * TCP connections that a copied memory brings along, in real VMs: those to the outside end in the
 * copy before its programs run, and nothing of them ever leaves it; those within it go on.
 */
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DaemonProcess } from "../kit/daemon-process.ts";
import { execRaw, ExecSocket } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { Outside } from "../kit/outside.ts";
import { vmSkipReason } from "../kit/preflight.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

/** `ECONNABORTED`: ended by the guest itself. One that a slot reset would be `ECONNRESET`, 104. */
const ABORTED = "103";

/**
 * Holds two connections to the outside and one on loopback. Says its host's name and a number over
 * the first, waits on the second without a word, and counts echoes over the third. Files tell the
 * count, and the error that each of the two ended with.
 */
const CLIENT = String.raw`use IO::Socket::INET; $| = 1; $SIG{PIPE} = 'IGNORE';
sub tell_file { my ($name, $text) = @_; open(my $f, '>', "/tmp/$name.new"); print $f $text; close $f; rename "/tmp/$name.new", "/tmp/$name" }
sub name { open(my $f, '<', '/proc/sys/kernel/hostname'); my $n = <$f>; chomp $n; $n }
sub dial { my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1]) or die "dial: $@"; sysread($s, my $b, 100); $s }
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $@";
unless (fork) { my $c = $server->accept; while (sysread($c, my $b, 100)) { syswrite($c, $b) } exit }
my $inside = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->sockport) or die "inside: $@";
unless (fork) { my $s = dial; my $n = sysread($s, my $b, 100); tell_file('quiet', defined $n ? "end" : $! + 0); exit }
my $talk = dial; print "up\n";
for (my $i = 1; ; $i++) {
  if ($talk and !defined syswrite($talk, name . " $i\n")) { tell_file('talk', $! + 0); undef $talk }
  syswrite($inside, 'x'); sysread($inside, my $b, 1) == 1 or die "inside"; tell_file('echoes', $i);
  select undef, undef, undef, 0.2;
}`;

describe.skipIf(vmSkipReason() !== undefined)("connections of a copied memory", () => {
  let daemon: DaemonProcess;
  let outside: Outside;
  const name = uniqueName("talks");

  const shell = async (sprite: string, script: string): Promise<string> =>
    (await execRaw(daemon, sprite, { cmd: ["sh", "-c", script] })).stdout.toString().trim();
  const ENDS = "cd /tmp; for f in talk quiet; do echo $f $(cat $f 2>/dev/null); done";
  /** Numbers that a sprite has said to the outside. */
  const saidBy = async (sprite: string): Promise<number[]> =>
    (await outside.heard())
      .split("\n")
      .filter((line) => line.startsWith(`${sprite} `))
      .map((line) => Number(line.split(" ")[1]));
  const post = async (path: string, json: unknown): Promise<string> => {
    const answer = await ask(daemon, `/v1/sprites/${name}${path}`, { method: "POST", json });
    expect(answer.status, answer.text).toBeLessThan(300);
    return answer.text;
  };
  /** Both connections to the outside have ended in a sprite; the one within goes on. */
  const expectEnded = async (sprite: string): Promise<void> => {
    const moreEchoes = "cd /tmp; from=$(cat echoes); until [ $(cat echoes) -gt $((from + 1)) ]; do sleep 0.1; done";
    const bothEnded = "n=0; until [ -s talk -a -s quiet ] || [ $n -ge 300 ]; do sleep 0.1; n=$((n + 1)); done";
    expect(await shell(sprite, `${moreEchoes}; ${bothEnded}; ${ENDS}`)).toBe(`talk ${ABORTED}\nquiet ${ABORTED}`);
  };

  beforeAll(async () => {
    outside = await Outside.open();
    daemon = await DaemonProcess.open();
    await createSprite(daemon, name);
    const argv = ["perl", "-e", CLIENT, outside.address, String(outside.port)];
    const client = await ExecSocket.open(daemon, name, { cmd: argv, stdin: "false", max_run_after_disconnect: "0s" });
    await client.until("the client", () => client.stream(1).includes("up"));
    client.drop();
    await waitFor("words of the source", { timeoutMs: 60_000 }, async () => (await saidBy(name)).length > 3);
  });
  afterAll(async () => {
    await using _outside = outside;
    await daemon?.closeClean().finally(() => daemon[Symbol.asyncDispose]());
  });

  test("[BOOT-7] [NET-26] in a fork those to the outside end at once and say nothing, the one within goes on; the source keeps all", async () => {
    const fork = uniqueName("copies");
    await post("/fork", { names: [fork], memory: true });
    await expectEnded(fork);
    const said = (await saidBy(name)).length;
    await waitFor("more words of the source", { timeoutMs: 60_000 }, async () => (await saidBy(name)).length > said + 1);
    const all = await saidBy(name);
    expect(all).toEqual(all.map((_, index) => index + 1));
    expect(await saidBy(fork)).toEqual([]);
    expect(await outside.established()).toBe(2);
    expect(await shell(name, ENDS)).toBe("talk\nquiet");
    expect((await ask(daemon, `/v1/sprites/${fork}`, { method: "DELETE" })).status).toBe(204);
  });

  test("[BOOT-7] in a restored memory too, although it is the same sprite", async () => {
    const id = (JSON.parse((await post("/checkpoint", { memory: true })).trim().split("\n").at(-1) ?? "{}") as { id?: string }).id;
    const said = (await saidBy(name)).length;
    await waitFor("words after the checkpoint", { timeoutMs: 60_000 }, async () => (await saidBy(name)).length > said);
    await post(`/checkpoints/${id}/restore`, {});
    // What the ended machine sent is still on its way.
    let before: string | undefined;
    await waitFor("the last words", { timeoutMs: 60_000, everyMs: 1_000 }, async () => before === (before = await outside.heard()));
    await expectEnded(name);
    expect(await outside.heard()).toBe(before);
  });
});
