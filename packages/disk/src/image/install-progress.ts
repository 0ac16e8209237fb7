/**
 * How far an installation is, read from what apt and dpkg print. Fetching, unpacking and setting up
 * are counted per package against the number apt announced; the fraction never goes back.
 */

/** Shares of the whole, found by timing builds of both shipped images. */
const SHARE = { fetch: 0.3, unpack: 0.35, setUp: 0.35 } as const;

export class InstallProgress {
  readonly #expected: number;
  #announced = 0;
  #fetched = 0;
  #unpacked = 0;
  #setUp = 0;
  #fraction = 0;

  /** `expectedPackages`: a first guess, used until apt announces more. */
  constructor(expectedPackages: number) {
    this.#expected = Math.max(1, expectedPackages);
  }

  /** 0..0.99. */
  get fraction(): number {
    return this.#fraction;
  }

  /** Takes one line of output; returns what is being done when the line says so. */
  take(line: string): string | undefined {
    const announced = /^\d+ upgraded, (\d+) newly installed/.exec(line);
    if (announced) this.#announced += Number(announced[1]);
    const detail = this.#count(line);
    const total = Math.max(this.#expected, this.#announced, this.#unpacked);
    const share = (count: number): number => Math.min(1, count / total);
    const now = SHARE.fetch * share(this.#fetched) + SHARE.unpack * share(this.#unpacked) + SHARE.setUp * share(this.#setUp);
    this.#fraction = Math.min(0.99, Math.max(this.#fraction, now));
    return detail;
  }

  #count(line: string): string | undefined {
    const fetched = /^Get:\d+ .* (\S+) (?:amd64|all) \S+ \[/.exec(line);
    if (fetched) {
      // Lists are fetched with the same words, but are no packages.
      if (/ (Packages|Translation-\w+|InRelease)\b/.test(line)) return "fetching package lists";
      this.#fetched += 1;
      return `fetching ${fetched[1]}`;
    }
    const unpacked = /^Unpacking (\S+)/.exec(line);
    if (unpacked) {
      this.#unpacked += 1;
      return `unpacking ${unpacked[1]}`;
    }
    const setUp = /^Setting up (\S+)/.exec(line);
    if (setUp) {
      this.#setUp += 1;
      return `setting up ${setUp[1]}`;
    }
    return undefined;
  }
}
