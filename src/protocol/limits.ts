/** Raised by one whenever a message changes its meaning; controller and worker must agree. */
export const PROTOCOL_VERSION = 8;
/** Bytes of tensor data in one `chunk` message, at most. */
export const CHUNK_BYTES = 4 * 1024 * 1024;
/**
 * Bytes of tensor data that may be under way in one direction of one connection before credit comes back: what each
 * worker may cost in memory beside the tensors themselves. Four chunks keep the connection busy.
 */
export const CREDIT_BYTES = 16 * 1024 * 1024;
/** A larger frame is refused before it is parsed. */
export const MAX_FRAME_BYTES = CHUNK_BYTES + 1024 * 1024;
