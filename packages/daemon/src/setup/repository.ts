import path from "node:path";

/**
 * Where the parts lie that become images and guests: in the checkout this program runs from.
 */

const ROOT = path.resolve(import.meta.dirname, "..", "..", "..", "..");

/** Definitions of the shipped base images, a file each. */
export const IMAGE_DEFINITIONS = path.join(ROOT, "images");
/** The bundled agent, made by the bootstrap. */
export const AGENT_BUNDLE = path.join(ROOT, "dist", "agent");
/** Laid over the system image's root. */
export const GUEST_OVERLAY = path.join(ROOT, "packages", "agent", "guest");
/** Version of the whole product. */
export const PRODUCT_PACKAGE = path.join(ROOT, "package.json");
