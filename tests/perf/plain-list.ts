/** A list as the barest server there is sends it, and a client that only takes it. */
import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import http from "node:http";
import path from "node:path";

/** Serves `body` as an object from a process of its own. */
export async function startJsonServer(directory: string, body: Buffer): Promise<{ url: string } & AsyncDisposable> {
  const file = path.join(directory, "list.json");
  await fs.writeFile(file, body);
  const child = spawn(process.execPath, [path.join(import.meta.dirname, "json-server.ts"), file], { stdio: ["pipe", "pipe", "inherit"] });
  const port = await new Promise<string>((resolve) => child.stdout.once("data", (chunk) => resolve(String(chunk).trim())));
  return {
    url: `http://127.0.0.1:${port}/`,
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await new Promise((resolve) => child.once("exit", resolve));
    },
  };
}

/** Downloads and throws away. */
export async function download(url: string, token: string): Promise<void> {
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    http.get(url, { headers: { authorization: `Bearer ${token}` }, agent: false }, resolve).on("error", reject);
  });
  for await (const chunk of response) void chunk;
  if (response.statusCode !== 200) throw new Error(`${url} was answered ${response.statusCode}`);
}
