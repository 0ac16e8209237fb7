import type { ApiClient } from "@sprited/protocol/client";
import { askDaemon } from "./api.ts";
import { CommandError } from "./failure.ts";
import { renderTable } from "./terminal.ts";
import { organizationOf } from "./token.ts";

/** `sprited quota`: what an organization may have at most, through the running daemon. */

export interface QuotaChange {
  organization?: string | undefined;
  /** Numbers, or `none`; left out: unchanged. */
  sprites?: string | undefined;
  running?: string | undefined;
  diskGb?: string | undefined;
  checkpoints?: string | undefined;
}

/** Changes what is named and returns the quota as a table. */
export async function changeQuota(client: ApiClient, change: QuotaChange): Promise<string> {
  const slug = await organizationOf(client, change);
  const body = {
    ...limit("sprites", change.sprites),
    ...limit("running", change.running),
    ...limit("disk_gb", change.diskGb),
    ...limit("checkpoints", change.checkpoints),
  };
  const quota = await askDaemon(client, async () =>
    Object.keys(body).length === 0 ? client.call("getQuota", { params: { slug } }) : client.call("setQuota", { params: { slug }, body }),
  );
  return renderTable([
    ["LIMIT", "AT MOST"],
    ...Object.entries(quota).map(([name, value]) => [name, value === null ? "none" : String(value)]),
  ]);
}

function limit(name: string, text: string | undefined): Record<string, number | null> {
  if (text === undefined) return {};
  if (text === "none") return { [name]: null };
  if (!/^[0-9]{1,9}$/.test(text)) throw new CommandError("usage", `${text} is neither a whole number nor "none".`);
  return { [name]: Number(text) };
}
