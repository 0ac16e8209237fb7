/** The `.sprite` file of a directory: which sprite commands run there mean. */
import { join } from "node:path";
import { readJsonObject, removeFile, writePublicJson } from "./files.ts";

export interface SpriteFile {
  organization: string | undefined;
  sprite: string | undefined;
}

/** Reads `.sprite` of `dir`; undefined when there is none. */
export function readSpriteFile(dir: string): SpriteFile | undefined {
  const content = readJsonObject(join(dir, ".sprite"));
  if (!content) return undefined;
  const text = (name: string): string | undefined => {
    const value = content[name];
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  return { organization: text("organization"), sprite: text("sprite") };
}

export function writeSpriteFile(dir: string, file: { organization: string; sprite: string }): void {
  writePublicJson(join(dir, ".sprite"), file);
}

/** Removes `.sprite` of `dir`; true when there was one. */
export function removeSpriteFile(dir: string): boolean {
  return removeFile(join(dir, ".sprite"));
}
