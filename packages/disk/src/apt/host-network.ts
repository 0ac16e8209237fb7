/**
 * What the host's administrator has set for reaching the network: proxies and certificates. The
 * only place of this package that reads the environment.
 */
import path from "node:path";
import { ignore, run } from "@sprited/base";

const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NETWORK_VARIABLES = [
  "http_proxy",
  "https_proxy",
  "no_proxy",
  "HTTP_PROXY",
  "HTTPS_PROXY",
  "NO_PROXY",
  "NODE_EXTRA_CA_CERTS",
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
];
const APT_SETTINGS = ["Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::http::Proxy-Auto-Detect"];

/** Variables that programs which fetch something must see. */
// oxlint-disable-next-line house/no-process-env -- proxies and certificates belong to the host, not to our settings
export function networkEnvironment(environment: NodeJS.ProcessEnv = process.env): Record<string, string> {
  return Object.fromEntries(
    NETWORK_VARIABLES.flatMap((name) => {
      const value = environment[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/**
 * How to start the host's npm on the Node that runs this program: npm passes over releases that its own
 * Node is too old for, and the host's Node may be older than the image's.
 */
// oxlint-disable-next-line house/no-process-env -- where npm lies is only told there when it is not in a system directory
export function npmCommand(environment: NodeJS.ProcessEnv = process.env, nodePath: string = process.execPath): NpmCommand {
  const ours = environment["npm_execpath"];
  if (ours?.endsWith("npm-cli.js")) return { program: nodePath, args: [ours], env: {} };
  return { program: "npm", args: [], env: { PATH: `${path.dirname(nodePath)}:${SYSTEM_PATH}` } };
}

export interface NpmCommand {
  program: string;
  /** Before npm's own arguments. */
  args: string[];
  env: Record<string, string>;
}

/** Proxy settings of the host's apt; without them a machine behind a proxy could not fetch anything. */
export async function hostAptProxy(): Promise<Record<string, string>> {
  const args = APT_SETTINGS.flatMap((name, index) => [`V${index}`, name]);
  const result = await run("apt-config", ["shell", ...args]).catch(ignore("no apt on this host: nothing to keep"));
  return parseAptConfig(result?.stdout ?? "");
}

/** Reads `V0='value'` lines; the number stands for a setting's place in the list. */
export function parseAptConfig(output: string): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const line of output.split("\n")) {
    const match = /^V(\d)='(.*)'$/.exec(line);
    const name = match ? APT_SETTINGS[Number(match[1])] : undefined;
    if (name !== undefined && match?.[2]) settings[name] = match[2];
  }
  return settings;
}
