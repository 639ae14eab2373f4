//! Return of freed heap memory to the system: the one thing that Longshore asks of the C library by an
//! unsafe call, which its own code forbids.

/// From this size on, in bytes, a block is the system's own: most of what a git host sends at once, up to
/// 64 KiB, is larger, and what a page or a message needs is smaller.
#[cfg(target_env = "gnu")]
const OWN_BLOCK: libc::c_int = 32 << 10;

/// Gives the pages of freed small blocks back to the system, wherever they lie.
///
/// By itself glibc gives back what is free at the end of a heap alone, and it has a heap for every few
/// threads: what a busy minute took, in pieces between what lives on, would stay resident. Elsewhere than
/// with glibc this does nothing.
pub fn give_back() {
    // SAFETY: malloc_trim takes the allocator's locks; it changes no block that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has glibc map every large block by itself and give it back when it is freed. Call it before there are
/// threads.
///
/// By itself glibc raises that size up to 32 MiB as blocks are freed, and takes them from one heap. There
/// libgit2's packets, large and short-lived, left holes behind the small blocks that it keeps of each
/// object: a fetch of 1 GB in 10,000 files took 80 to 150 MiB for 6 MiB in use. Elsewhere than with
/// glibc this does nothing.
pub fn map_large_blocks() {
    // SAFETY: mallopt sets a number of the allocator under its lock; it reads and writes no memory of ours.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_BLOCK);
    }
}
