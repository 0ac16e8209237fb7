/**
 * What is in an image: every package with its version, by source, and the definition it was made
 * from. Lies beside the image and inside it.
 */
import { z } from "zod";
import { imageDefinition } from "./definition.ts";

const packageEntry = z.object({ name: z.string(), version: z.string() });

export const imageManifest = z.object({
  /** Form of this file. */
  format: z.literal(1),
  name: z.string(),
  /** Digest of the image. */
  digest: z.string(),
  built_at: z.string(),
  definition: imageDefinition,
  packages: z.object({
    /** Debian packages. */
    apt: z.array(packageEntry.extend({ architecture: z.string() })),
    /** npm packages, those they depend on included. */
    npm: z.array(packageEntry),
  }),
});
export type ImageManifest = z.infer<typeof imageManifest>;

/** Installed packages from dpkg's status file, sorted by name. */
export function parseDpkgStatus(text: string): ImageManifest["packages"]["apt"] {
  const packages: ImageManifest["packages"]["apt"] = [];
  for (const paragraph of text.split(/\n\n+/)) {
    const field = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, "m").exec(paragraph)?.[1];
    const name = field("Package");
    const version = field("Version");
    const architecture = field("Architecture");
    if (!name || !version || !architecture || !field("Status")?.endsWith(" installed")) continue;
    packages.push({ name, version, architecture });
  }
  return packages.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
