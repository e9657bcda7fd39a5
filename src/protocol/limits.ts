/** Raised by one whenever a message changes its meaning; controller and worker must have the same. */
export const PROTOCOL_VERSION = 15;
/** What every message has besides its type. */
export const SESSION = { protocol_version: PROTOCOL_VERSION } as const;
/** Most bytes of tensor data in one `chunk` message. */
export const CHUNK_BYTES = 4 * 1024 * 1024;
/**
 * Bytes of tensor data that may be in flight in one direction of a connection before credit is returned: the memory that
 * each worker may cost besides the tensors themselves. Four chunks keep the connection busy.
 */
export const CREDIT_BYTES = 16 * 1024 * 1024;
/** A larger frame is refused before it is parsed. */
export const MAX_FRAME_BYTES = CHUNK_BYTES + 1024 * 1024;
