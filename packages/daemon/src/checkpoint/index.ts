export type { CheckpointList, CheckpointView, CreateCheckpoint } from "./checkpoint.ts";
export { Checkpoints, type CheckpointSource, type Restored, type UseOf } from "./checkpoints.ts";
export { differences, everyFile, type FileDifference } from "./diff.ts";
export { CheckpointFiles, type CheckpointMeta, type CheckpointPaths, pathsIn } from "./files.ts";
export { Operation, type OperationEvent } from "./operation.ts";
export { CheckpointReaders, readerName } from "./readers.ts";
export { type SpriteStates, spriteStates, type StateFiles } from "./sprite-state.ts";
export { trialResume } from "./throwaway.ts";
export { Verifier } from "./verifier.ts";
