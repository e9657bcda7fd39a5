/** What prelort uses of a package that has no types of its own. */
declare module "fs-native-extensions" {
  /**
   * Locks the whole file for this descriptor: an open-file-description lock on Linux, flock on macOS. False where another
   * descriptor holds it; throws a system error where the file system has no locks. `shared`: refused only by a lock that is not.
   */
  export function tryLock(fd: number, offset: number, length: number, options: { readonly shared?: boolean }): boolean;
}
