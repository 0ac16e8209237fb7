import type { ApiClient } from "@sprited/protocol/client";
import { askDaemon } from "./api.ts";
import { renderTable } from "./terminal.ts";

/** `sprited gc`: files that nothing refers to, through the running daemon. */

/** What was removed, or with `dryRun` what would be, as a table. */
export async function collectGarbage(client: ApiClient, options: { dryRun: boolean }): Promise<string> {
  const { items, bytes } = await askDaemon(client, async () => client.call("collectGarbage", { body: { dry_run: options.dryRun } }));
  if (items.length === 0) return "Nothing to remove: everything in the home is referred to, or younger than an hour.";
  const rows = items.map((item) => [item.path, mib(item.bytes), item.reason]);
  const sum = `${items.length === 1 ? "One thing" : `${items.length} things`}, ${mib(bytes)} at most (blocks shared with others stay).`;
  return `${renderTable([["PATH", "SIZE", "WHY"], ...rows])}\n${options.dryRun ? "Would remove:" : "Removed:"} ${sum}`;
}

function mib(bytes: number): string {
  return `${(bytes / 1_048_576).toFixed(bytes < 10_485_760 ? 1 : 0)} MiB`;
}
