/**
 * Programs of the distribution that only tests run. Invariant: a machine that has them is not
 * touched; none of them is needed by the product.
 */
import { existsSync, readFileSync } from "node:fs";
import { installPackages } from "../../packages/daemon/src/setup/apt.ts";
import { planPackages, type SystemPackage } from "../../packages/daemon/src/setup/packages.ts";

export const TEST_PACKAGES: readonly SystemPackage[] = [
  { name: "tmux", reason: "test full-screen programs in a terminal", provides: ["tmux"] },
  { name: "zsh", reason: "test its completion", provides: ["zsh"] },
  { name: "fish", reason: "test its completion", provides: ["fish"] },
];

/** Installs what is missing of them; needs root. Resolves with why it could not; undefined when all are there. */
export async function ensureTestPackages(): Promise<string | undefined> {
  const osRelease = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
  const plan = planPackages({ exists: existsSync, osRelease }, TEST_PACKAGES);
  if (plan.kind === "complete") return undefined;
  const names = plan.packages.map(({ name }) => name);
  if (plan.kind === "unknown_distribution") return `packages of Debian can be installed only there; missing: ${names.join(", ")}`;
  console.log(`Installing for the tests alone: ${names.join(", ")}`);
  try {
    await installPackages(names, { onProgress: () => {} });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
