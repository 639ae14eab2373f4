//! Tells the build scripts of libgit2 and libssh2 where `zlib.h` is (`DEP_Z_INCLUDE`).

use std::path::Path;

fn main() {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    println!("cargo::rerun-if-changed=include");
    println!("cargo::metadata=include={}", include.display());
}
