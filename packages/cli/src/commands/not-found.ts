/** A better hint when the sprite that is not there was named by the file `.sprite`. */
import { ApiError } from "@sprited/protocol/errors";
import { CliError } from "../output/cli-error.ts";
import type { Target } from "../settings/load.ts";

/** The result of `call`; says so when `.sprite` names a sprite that does not exist. */
export async function found<T>(target: Target, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (!target.fromFile || !ApiError.is(error) || (error.code !== "sprite_not_found" && error.code !== "not_found")) throw error;
    throw new CliError(`There is no sprite ${target.sprite}, which the file .sprite here names.`, {
      hint: "Choose another with `sprite use NAME`, or forget it with `sprite use --unset`.",
      code: error.code,
      cause: error,
    });
  }
}
