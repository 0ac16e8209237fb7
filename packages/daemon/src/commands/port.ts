import net from "node:net";

/** Throws the system's own error when the address cannot be listened on. */
export async function requirePortFree(address: { host: string; port: number }): Promise<void> {
  if (address.port === 0) return;
  const server = net.createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: address.host, port: address.port, exclusive: true }, resolve);
  });
  await new Promise<void>((resolve) => server.close(() => resolve()));
}
