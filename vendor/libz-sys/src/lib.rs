//! zlib for the C libraries of this program: `inflate`, `deflate`, `crc32` and the rest of `zlib.h`, written
//! in Rust. Nothing is called from here; naming the crate is what has its functions linked.

#![no_std]

pub use libz_rs_sys::*;
