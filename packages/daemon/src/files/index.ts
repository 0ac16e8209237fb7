/** The door of the files feature. */
export { type Bytes, type FileContent, type FileScope, Files, type FileSprites, type TreeItem, type TreeSource } from "./files.ts";
export { tarOf, treeOf } from "./tar.ts";
