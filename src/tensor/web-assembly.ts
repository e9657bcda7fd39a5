/** Instances of a WebAssembly module, each with its own memory of at least that many bytes. */
export type Instantiate<M> = (bytes: number) => { readonly wasm: M; readonly buffer: ArrayBuffer };

/** The parts of WebAssembly's JavaScript API that are used here; Node's types lack it. */
interface WebAssemblyApi {
  validate(bytes: Uint8Array): boolean;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Memory: new (pages: { readonly initial: number; readonly maximum: number }) => { readonly buffer: ArrayBuffer };
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}

const PAGE_BYTES = 65536;

/** Compiles a module in base64; undefined if the machine has no vector instructions. `M` is what it exports. */
export function compileModule<M>(base64: string): Instantiate<M> | undefined {
  const { WebAssembly: api } = globalThis as { readonly WebAssembly?: WebAssemblyApi };
  const bytes = Buffer.from(base64, "base64");
  if (!api?.validate(bytes)) return undefined;
  const module = new api.Module(bytes);
  return (size) => {
    const pages = Math.ceil(size / PAGE_BYTES);
    const memory = new api.Memory({ initial: pages, maximum: pages });
    return { wasm: new api.Instance(module, { env: { memory } }).exports as M, buffer: memory.buffer };
  };
}
