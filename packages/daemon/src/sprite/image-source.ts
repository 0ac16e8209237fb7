/** The image that a new sprite's disk is cloned from, with errors that name it. */
import { DiskError, type ImageRecord, type ImageStore } from "@sprited/disk";
import { ApiError } from "@sprited/protocol/errors";

/** Finds the image and its file for a disk of `storageGb` GB. Throws `image_unknown`, `image_damaged`. */
export async function imageSource(images: ImageStore, name: string, storageGb: number): Promise<{ image: ImageRecord; path: string }> {
  const shown = JSON.stringify(name);
  try {
    const image = await images.find(name);
    if (!image)
      throw new ApiError("image_unknown", `there is no image ${shown}; \`sprited image list\` shows what there is`, {
        details: { field: "image" },
      });
    return { image, path: await images.disk(image, storageGb) };
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "disk_damaged") throw error;
    throw new ApiError("image_damaged", `the image ${shown} is damaged; build it again with \`sprited image build\``, { cause: error });
  }
}
