/** What owns a native handle, shared between the tensor that a user holds and the tape. */
import { native, scratch } from '../addon.js';
import { capturing } from './capture.js';
import { CPU, gpusInUse } from './device.js';
import type { Shape } from './layout.js';

/** Counts writes in place to a storage, which all its views share. */
export class Version {
  /** Writes so far. */
  count = 0;
  /** Live slots on this storage. */
  owners = 1;
  /** Whether other threads may write to the storage, which nothing here would notice. */
  leftThread = false;
  /** Whether writes go behind what anybody has read, as in a cache, so that views stay what they were. */
  appends = false;
}

/** What kernels read in place of a slot's values; null: asked for once, not made yet. */
export interface PackedValues {
  /** Of the writes, when it was made: after another it is stale. */
  readonly count: number;
  /** Of the view that kernels read it in place of, which may be the transposed. */
  readonly shape: Shape;
  /** Likewise. */
  readonly strides: Shape;
  /** The tensor. */
  readonly made: Disposable | null;
}

/**
 * Owns one native handle. `users` counts the tensors and the tape's nodes that hold it; at zero the handle is freed at
 * once. The native side keeps a weak reference to this object, so that dropping it without `dispose` also frees the
 * handle, at the next sweep.
 */
export class Slot {
  /** The native handle. */
  id = 0;
  /** Tensors and nodes of the tape that hold it. */
  users = 1;
  /** Code of the dtype. */
  readonly dtype: number;
  /** null until somebody asks: most tensors are never saved, viewed or written to. */
  version: Version | null = null;
  /** Freed by a write through this slot, and with it. */
  packed: PackedValues | null = null;
  private shapeKnown: Shape | null = null;
  private stridesKnown: Shape | null = null;
  private deviceKnown = -1;

  constructor(dtype: number) {
    this.dtype = dtype;
  }

  get shape(): Shape {
    return this.shapeKnown ?? this.inspect();
  }
  get strides(): Shape {
    if (this.stridesKnown === null) this.inspect();
    return this.stridesKnown!;
  }
  /** Number of the device that holds the values. */
  get device(): number {
    if (!gpusInUse()) return CPU;
    if (this.deviceKnown < 0) this.inspect();
    return this.deviceKnown;
  }
  /** Spares the inspection where the layout is known. */
  setLayout(shape: Shape, strides: Shape): void {
    this.shapeKnown = shape;
    this.stridesKnown = strides;
  }
  sharedVersion(): Version {
    return (this.version ??= new Version());
  }
  /** Says that the storage was written to. */
  touch(): void {
    const version = this.sharedVersion();
    version.count++;
    if (this.packed !== null) this.unpack();
    if (capturing !== null) capturing.touched.add(version);
  }
  /** Frees what was packed of the values. */
  unpack(): void {
    this.packed?.made?.[Symbol.dispose]();
    this.packed = null;
  }
  /** Lets go for one user; the last frees the handle. */
  release(): void {
    if (--this.users > 0 || this.id === 0) return;
    native.free(this.id);
    this.id = 0;
    if (this.version !== null) this.version.owners--;
    if (this.packed !== null) this.unpack();
  }

  private inspect(): Shape {
    const rank = native.inspect(this.id);
    // loops: Array.from on a subarray takes ten times as long
    const shape = new Array<number>(rank);
    const strides = new Array<number>(rank);
    for (let i = 0; i < rank; i++) {
      shape[i] = scratch[i]!;
      strides[i] = scratch[rank + i]!;
    }
    this.stridesKnown = strides;
    this.deviceKnown = scratch[2 * rank + 1]!;
    return (this.shapeKnown = shape);
  }
}
