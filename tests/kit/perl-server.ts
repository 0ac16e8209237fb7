/** Small TCP servers inside a sprite, in the Perl that every Debian has. */
import type { Sprite } from "@fly/sprites";
import { ignore, sleep, waitFor } from "@sprited/base";
import { type SpriteCommand, spawned, watchOutput } from "./sdk-command.ts";

const STOP_TIMEOUT_MS = 20_000;
/** Starting an interpreter in an emulated machine takes its time, ms. */
const START_TIMEOUT_MS = 60_000;

/**
 * `echo`: sends back what comes, until the end of it. `greet`: says a line and closes. `keep`:
 * prints what comes. `late`: answers only after the end of the input.
 */
const SCRIPTS = {
  echo: `while ((my $n = sysread($c, my $b, 65536)) > 0) { my $o = 0; while ($o < $n) { my $w = syswrite($c, $b, $n - $o, $o); last unless defined $w; $o += $w } }`,
  greet: `syswrite($c, "220 welcome\\r\\n");`,
  keep: `while (sysread($c, my $b, 65536) > 0) { syswrite(STDOUT, $b) }`,
  late: `my $all = ""; while (sysread($c, my $b, 65536) > 0) { $all .= $b } syswrite($c, "heard " . length($all) . "\\n");`,
} as const;

export class PerlServer implements AsyncDisposable {
  readonly port: number;
  readonly pid: number;
  readonly output: () => string;
  readonly #command: SpriteCommand;

  private constructor(command: SpriteCommand, output: () => string, port: number, pid: number) {
    this.#command = command;
    this.output = output;
    this.port = port;
    this.pid = pid;
  }

  /** Starts one that serves each connection in a process of its own. `before`: words in front of `perl`, for example `sudo`. */
  static async start(
    sprite: Sprite,
    kind: keyof typeof SCRIPTS,
    options: { address?: string; before?: readonly string[] } = {},
  ): Promise<PerlServer> {
    const address = options.address ?? "127.0.0.1";
    const family = address.includes(":") ? "IO::Socket::IP" : "IO::Socket::INET";
    const script = `use ${family}; $| = 1; $SIG{CHLD} = 'IGNORE';
my $s = ${family}->new(LocalAddr => '${address}', LocalHost => '${address}', LocalPort => 0, Listen => 64, ReuseAddr => 1) or die "listen: $@";
print "port ", $s->sockport, " pid $$\\n";
while (my $c = $s->accept) { next if fork; close $s; ${SCRIPTS[kind]} exit 0 }`;
    const argv = [...(options.before ?? []), "perl", "-e", script];
    // It outlives a daemon that is killed, and with it the client.
    const command = sprite.spawn(argv[0] as string, argv.slice(1), { maxRunAfterDisconnect: "10m" });
    const seen = watchOutput(command);
    command.on("error", ignore("the daemon may be killed; a server that does not start shows below"));
    await spawned(command);
    const [, port, pid] = await waitFor("the server's port", { timeoutMs: START_TIMEOUT_MS }, () => {
      if (seen.stderr().includes("listen:")) throw new Error(seen.stderr());
      return /port (\d+) pid (\d+)\n/.exec(seen.stdout()) ?? undefined;
    });
    return new PerlServer(command, seen.stdout, Number(port), Number(pid));
  }

  async stop(): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#command.once("exit", () => resolve()));
    this.#command.kill("SIGKILL");
    await Promise.race([ended, sleep(STOP_TIMEOUT_MS, { ref: false })]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
