import path from "node:path";

/**
 * Where everything lies below `SPRITED_HOME`. The one place that knows; on-disk formats are
 * listed in docs/compatibility.md.
 *
 * ```
 * token sprited.toml sprited.db lock      first admin token, settings, database, single-daemon lock
 * cache/                                  downloads: apt state, .deb files
 * runtime/kernel/ runtime/qemu/           unpacked kernel and private QEMU
 * runtime/system/<digest>/                system image and initrd
 * pool.img                                XFS pool file, only where the home has no reflinks
 * pool/images/<digest>/                   base images: image.raw (per size: image-<GiB>g.raw), manifest.json
 * pool/boot/<key>/                        boot snapshots: ram, state, meta.json
 * pool/sprites/<id>/                      disk.raw of each sprite; memory/{ram,state} of one that sleeps
 * pool/checkpoints/<sprite>/<id>/         its save points: disk.raw, with memory ram and state, meta.json
 * pool/templates/<id>/state/              versions of templates, in the form of save points
 * pool/scratch/                           throwaway clones; emptied at every start
 * sessions/<sprite>/<session>/            output logs of exec sessions: NNN.log
 * run/<incarnation>/                      a live VM: sockets, pid, spec
 * log/                                    the daemon's log
 * ```
 */
export interface HomeLayout {
  root: string;
  tokenPath: string;
  configPath: string;
  databasePath: string;
  lockPath: string;
  cache: string;
  runtime: string;
  poolImagePath: string;
  pool: string;
  images: string;
  bootSnapshots: string;
  sprites: string;
  checkpoints: string;
  templates: string;
  scratch: string;
  /** Output logs of exec sessions. */
  sessions: string;
  run: string;
  logs: string;
}

export function homeLayout(root: string): HomeLayout {
  const at = (...parts: string[]): string => path.join(root, ...parts);
  return {
    root,
    tokenPath: at("token"),
    configPath: at("sprited.toml"),
    databasePath: at("sprited.db"),
    lockPath: at("lock"),
    cache: at("cache"),
    runtime: at("runtime"),
    poolImagePath: at("pool.img"),
    pool: at("pool"),
    images: at("pool", "images"),
    bootSnapshots: at("pool", "boot"),
    sprites: at("pool", "sprites"),
    checkpoints: at("pool", "checkpoints"),
    templates: at("pool", "templates"),
    scratch: at("pool", "scratch"),
    sessions: at("sessions"),
    run: at("run"),
    logs: at("log"),
  };
}
