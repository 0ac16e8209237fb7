import { createHash } from "node:crypto";
import net from "node:net";

/** How often a waiting bootstrap looks again, `ms`. */
const RETRY_MS = 250;

/**
 * Lets one bootstrap of a checkout work at a time. The holder listens on an abstract unix socket,
 * which the kernel frees with its process, however that ends.
 * @param {string} root of the repository
 * @param {() => void} onWait called once when another one is at work
 * @returns {Promise<() => void>} gives the turn back
 */
export async function takeTurn(root, onWait) {
  const name = `\0sprited-bootstrap-${createHash("sha256").update(root).digest("hex").slice(0, 32)}`;
  for (let attempt = 0; ; attempt += 1) {
    const server = await tryListen(name);
    if (server) return () => server.close();
    if (attempt === 0) onWait();
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/**
 * @param {string} name
 * @returns {Promise<net.Server | undefined>}
 */
function tryListen(name) {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => socket.destroy());
    server.once("error", (error) => {
      if (/** @type {NodeJS.ErrnoException} */ (error).code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    server.listen(name, () => {
      server.unref();
      resolve(server);
    });
  });
}
