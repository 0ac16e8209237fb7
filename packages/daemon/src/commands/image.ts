import { type Logger } from "@sprited/base";
import { homeLayout, type ImageStore, openDiskPool, openImageStore } from "@sprited/disk";
import type { Config } from "../config/index.ts";
import { ensureHome, IMAGE_DEFINITIONS, type ProgressReporter } from "../setup/index.ts";
import { renderTable } from "./terminal.ts";

/** `sprited image …`: base images, also beside a running daemon. */

/** Built images, newest last. */
export async function listImages(config: Config, logger: Logger): Promise<string> {
  const images = await (await openStore(config, logger)).list();
  const rows = images.map((image) => [
    image.name,
    image.digest.slice(0, 12),
    `${(image.contentBytes / 1_048_576).toFixed(0)} MB`,
    image.builtAt,
    image.manifestPath,
  ]);
  return renderTable([["NAME", "DIGEST", "CONTENT", "BUILT", "MANIFEST"], ...rows]);
}

/** Builds an image from a definition; equal content is not built twice. */
export async function buildImage(
  config: Config,
  how: { name: string; definitionPath?: string | undefined; logger: Logger; progress: ProgressReporter; signal: AbortSignal },
): Promise<string> {
  const store = await openStore(config, how.logger);
  const image = await how.progress.step(`base image: ${how.name}`, async (onProgress) =>
    store.build(how.name, {
      onProgress,
      signal: how.signal,
      ...(how.definitionPath === undefined ? {} : { definitionPath: how.definitionPath }),
    }),
  );
  return `${image.name} ${image.digest}\n${image.manifestPath}`;
}

async function openStore(config: Config, logger: Logger): Promise<ImageStore> {
  const layout = homeLayout(config.home);
  const isRoot = process.getuid?.() === 0;
  await ensureHome(config.home);
  const pool = await openDiskPool({
    layout,
    poolSizeGb: config.disk.poolSizeGb,
    freeFloorBytes: config.disk.freeFloorGb * 1_073_741_824,
    isRoot,
    logger,
  });
  const { mirror, securityMirror } = config.disk;
  return openImageStore({ layout, pool, definitions: IMAGE_DEFINITIONS, mirror, securityMirror, isRoot, logger });
}
