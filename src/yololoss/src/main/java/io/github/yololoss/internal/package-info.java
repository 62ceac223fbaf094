/**
 * The way to native code by {@code java.lang.foreign}: the generated structs ({@link
 * io.github.yololoss.internal.Abi}), a method for each function ({@link
 * io.github.yololoss.internal.Native}), and where the library comes from ({@link
 * io.github.yololoss.internal.NativeLibrary}, then its cache). It knows nothing of the public API,
 * and is not exported.
 */
package io.github.yololoss.internal;
