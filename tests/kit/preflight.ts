/**
 * Whether real VMs can be tested here. A skip always says why; with `SPRITED_TEST_REQUIRE_VM=1`
 * (CI) it is an error instead.
 */
import { findPreparedHome, hasPreparedImage } from "./prepared-home.ts";

/** undefined when real VMs (of `image`, where one is named) can be tested; else one sentence, printed once per file. */
export function vmSkipReason(image?: string): string | undefined {
  const reason = reasonAgainstVms() ?? reasonAgainstImage(image);
  if (reason === undefined) return undefined;
  if (process.env["SPRITED_TEST_REQUIRE_VM"] === "1") throw new Error(`real VMs cannot be tested: ${reason}`);
  console.warn(`skipped, real VMs cannot be tested: ${reason}`);
  return reason;
}

function reasonAgainstVms(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64")
    return `needs Linux on x86-64, this is ${process.platform} on ${process.arch}`;
  if (process.getuid?.() !== 0) return "needs root (network namespaces, control groups)";
  const prepared = findPreparedHome();
  return "missing" in prepared ? prepared.missing : undefined;
}

function reasonAgainstImage(image: string | undefined): string | undefined {
  if (image === undefined || hasPreparedImage(image)) return undefined;
  return `the prepared home has no image ${image}; \`npm test -- realwork\` builds what its tests need`;
}
